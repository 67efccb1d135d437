"""Fetch the raw images: copied from the scikit-image wheel, or downloaded and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowprior.images import fetch
from flowprior.params import DataSettings
from flowprior.progress import job_output

if TYPE_CHECKING:
    from snakemake.script import Snakemake

    snakemake: Snakemake

with job_output(snakemake.log[0]):
    fetch(DataSettings(**snakemake.params.data))
