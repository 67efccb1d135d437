"""Train one model, and draw what it learned."""

from pathlib import Path

from flowprior.experiment.artefacts import TRAINING
from flowprior.experiment.learning import TrainingJob, learn_together
from flowprior.progress import job_output
from flowprior.provenance.job import job_facts

gpus = snakemake.resources.get("gpu", 0)
with job_output(snakemake.log[0]), job_facts(snakemake, snakemake.output.job, bool(gpus)):
    folder = Path(snakemake.output.weights).parent
    # Where it goes on from: results/<experiment>/training/<prior>, and <task> below where it learns one.
    task = snakemake.params.get("task")
    place = [snakemake.wildcards.prior, *([] if task is None else [snakemake.wildcards.task])]
    state = folder.parents[len(place)].joinpath(TRAINING, *place)
    lesson = TrainingJob(
        images=str(snakemake.input.train),
        validation=str(snakemake.input.validation),
        folder=str(folder),
        state=str(state),
        prior=snakemake.params.prior,
        bits=snakemake.params.bits,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
        gpus=gpus,
        name=" for ".join(place),
        task=task,
        task_name=snakemake.wildcards.get("task", ""),
        begin=str(Path(begin).parent) if (begin := snakemake.input.get("begin_weights")) else None,
    )
    learn_together(lesson, processes=gpus)
