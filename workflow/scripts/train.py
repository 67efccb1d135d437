"""Train one flow by maximum likelihood, and draw its samples over temperatures."""

from pathlib import Path

from flowprior.experiment.learning import Lesson, learn_together
from flowprior.progress import job_output
from flowprior.provenance.job import job_facts

gpus = snakemake.resources.get("gpu", 0)
with job_output(snakemake.log[0]), job_facts(snakemake, snakemake.output.job, bool(gpus)):
    folder = Path(snakemake.output.weights).parent
    lesson = Lesson(
        images=str(snakemake.input.train),
        validation=str(snakemake.input.validation),
        folder=str(folder),
        state=str(folder.parent.parent / "training" / folder.name),
        prior=snakemake.params.prior,
        bits=snakemake.params.bits,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
        gpus=gpus,
    )
    learn_together(lesson, processes=gpus)
