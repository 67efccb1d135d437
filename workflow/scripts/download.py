"""Fetch the raw images: copied from the scikit-image wheel, or downloaded and verified."""

from flowprior.images import fetch
from flowprior.images.settings import DataSettings
from flowprior.progress import job_output

with job_output(snakemake.log[0]):
    fetch(DataSettings(**snakemake.params.data))
