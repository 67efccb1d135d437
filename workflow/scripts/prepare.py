"""Decode, crop and resize all images; one array per split, and a manifest."""

from pathlib import Path

from flowprior.experiment.plan import fetched
from flowprior.images import fetch, prepare
from flowprior.images.settings import SPLITS, DataSettings
from flowprior.progress import job_output

with job_output(snakemake.log[0]):
    data = DataSettings(**snakemake.params.data)
    if fetched(data):
        # Those of the experiment's own images lie there already; of another test set they may be missing.
        fetch(data)
    splits = snakemake.params.get("splits", SPLITS)
    manifest = prepare(data, Path(snakemake.output.manifest).parent, splits)
    for split, facts in manifest["splits"].items():
        print(f"{split}: {facts['count']} images, {len(facts['unreadable'])} unreadable")
