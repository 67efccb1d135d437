"""Fetch the raw images: copied from the scikit-image wheel, or downloaded and verified."""

from flowprior.experiment.params import DataSettings
from flowprior.images import fetch
from flowprior.progress import job_output

with job_output(snakemake.log[0]):
    fetch(DataSettings(**snakemake.params.data))
