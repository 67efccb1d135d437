"""Decode, crop and resize all images; one array per split, and a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flowprior.images import prepare
from flowprior.params import DataSettings
from flowprior.progress import job_output

if TYPE_CHECKING:
    from snakemake.script import Snakemake

    snakemake: Snakemake

with job_output(snakemake.log[0]):
    manifest = prepare(DataSettings(**snakemake.params.data), Path(snakemake.output.manifest).parent)
    for split, facts in manifest["splits"].items():
        print(f"{split}: {facts['count']} images, {len(facts['unreadable'])} unreadable")
