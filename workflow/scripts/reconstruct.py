"""Solve one task by one method at a chunk of settings, over all images of a split."""

from pathlib import Path

import numpy as np

from flowprior.device import device_for, use_tensor_cores, use_threads
from flowprior.experiment.inversion import Problem, invert, load_prior
from flowprior.files import replacing
from flowprior.progress import job_output
from flowprior.provenance.job import job_facts

gpus = snakemake.resources.get("gpu", 0)
with job_output(snakemake.log[0]), job_facts(snakemake, snakemake.output.job, bool(gpus)):
    use_threads(snakemake.threads)
    device = device_for(gpus)
    use_tensor_cores(device)
    problem = Problem.read(
        Path(snakemake.input.measurement),
        Path(snakemake.input.images),
        Path(snakemake.input.manifest),
        snakemake.params,
    )
    prior = load_prior(snakemake.params.prior, dict(snakemake.input.items()))
    found = invert(problem, prior, device)
    with replacing(Path(snakemake.output.rows)) as path:
        found.rows.to_parquet(path, index=False)
    with replacing(Path(snakemake.output.traces)) as path:
        found.traces.to_parquet(path, index=False)
    with replacing(Path(snakemake.output.images)) as path:
        np.save(path, found.images)
    with replacing(Path(snakemake.output.maps)) as path:
        found.maps.save(path)
