"""One self-contained page, and the figures and tables that stand in a paper as they are."""

from pathlib import Path

from flowprior.experiment.loading import experiment_from
from flowprior.progress import job_output
from flowprior.report import build

with job_output(snakemake.log[0]):
    experiment = experiment_from(snakemake.params.experiment)
    asked = experiment_from(snakemake.params.asked)
    build(experiment, Path(), skipped=snakemake.params.get("skipped", {}), asked=asked)
    print(f"report in {snakemake.output.page}")
