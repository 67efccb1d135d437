"""Decode, crop and resize all images; one array per split, and a manifest."""

from pathlib import Path

from flowprior.images import prepare
from flowprior.images.settings import SPLITS, DataSettings
from flowprior.progress import job_output

with job_output(snakemake.log[0]):
    data = DataSettings(**snakemake.params.data)
    splits = snakemake.params.get("splits", SPLITS)
    manifest = prepare(data, Path(snakemake.output.manifest).parent, splits)
    for split, facts in manifest["splits"].items():
        print(f"{split}: {facts['count']} images, {len(facts['unreadable'])} unreadable")
