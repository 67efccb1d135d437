"""Records of the experiment as MLflow runs. A server out of reach is said, and stops nothing."""

from pathlib import Path

from flowprior.experiment.layout import Layout
from flowprior.experiment.loading import experiment_from
from flowprior.progress import job_output
from flowprior.tracking import publish_experiment

with job_output(snakemake.log[0]):
    experiment = experiment_from(snakemake.params.experiment)
    # As they were resolved: the params file alone does not know what --config changed.
    settings = Layout(experiment).settings
    publish_experiment(experiment, Path.cwd(), f"make publish PARAMS={settings}")
