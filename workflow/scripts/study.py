"""Answer one study: its table, and its figure drawn from the table."""

from pathlib import Path

import pandas as pd

from flowprior.device import device_for, use_threads
from flowprior.experiment.inversion import load_prior
from flowprior.files import replacing
from flowprior.images import load
from flowprior.images.quantise import to_float
from flowprior.operators.task import TaskSettings
from flowprior.progress import job_output
from flowprior.report import style
from flowprior.studies.base import Subject
from flowprior.studies.registry import REGISTRY

with job_output(snakemake.log[0]):
    use_threads(snakemake.threads)
    device = device_for(snakemake.resources.get("gpu", 0))
    params, files = snakemake.params, dict(snakemake.input.items())
    asked = params.study
    study = REGISTRY.get(asked["study"])(REGISTRY.settings(asked["study"], asked["settings"]))
    model = images = None
    names = ()
    if study.needs is not None:
        model = load_prior("", files).to(device)
        found = load(Path(files["images"]), Path(files["manifest"]), params.number)
        images, names = to_float(found.pixels).to(device), found.names
    rows = pd.read_parquet(files["rows"]) if study.reads_rows else None
    tasks = {name: TaskSettings(**task) for name, task in params.tasks.items()}
    table = study.table(Subject(params.seed, model, images, tuple(names), rows, tasks))
    with replacing(Path(snakemake.output.table)) as path:
        table.to_csv(path, index=False, float_format="%.8g")
    # From the file: whoever has it alone draws the same.
    read = pd.read_csv(snakemake.output.table, keep_default_na=False, na_values=[""])
    with style.styled():
        figure = style.new_figure(style.TEXT_WIDTH, 2.6)
        study.draw(read, figure)
        style.save(figure, Path(snakemake.output.figure).with_suffix(""))
    print(f"{len(table)} lines in {snakemake.output.table}")
