"""Fit a model that is made of the training images at once."""

from pathlib import Path

import numpy as np

from flowprior import models
from flowprior.device import use_threads
from flowprior.files import replacing
from flowprior.progress import job_output

with job_output(snakemake.log[0]):
    use_threads(snakemake.threads)
    fitted = models.REGISTRY.get(snakemake.wildcards.prior).fit_pixels(np.load(snakemake.input.train, mmap_mode="r"))
    with replacing(Path(snakemake.output.fitted)) as path:
        fitted.save(path)
