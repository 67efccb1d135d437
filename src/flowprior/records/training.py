"""Records of trainings."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flowprior.experiment.layout import Step
from flowprior.images.checksums import of_file
from flowprior.records import facts
from flowprior.records.record import Record, finite, flat, thinned

if TYPE_CHECKING:
    from flowprior.experiment.layout import Layout

_WEIGHTS = "weights.safetensors"
_NUMBERS = ("bits_per_dim", "parameters", "steps", "seconds")
_FILES = ("samples.png", "config.json", "history.jsonl")


def training_record(common: facts.Common, prior: str) -> Record | None:
    """The training of one flow; None as long as it has not ended."""
    layout = common.layout
    experiment = layout.experiment
    if not all(layout.flow(prior, name).exists() for name in (_WEIGHTS, *_FILES)):
        return None
    plan, job, step = experiment.priors[prior], facts.read_facts(layout.flow(prior, "job.json")), Step.training(prior)
    wanted = {"prior": plan.model_dump(mode="json"), "bits": experiment.bits, "seed": experiment.seed}
    if other := facts.other_params(job, wanted):
        common.skip(f"the flow '{prior}' was trained with other settings ({other}); run the workflow again")
        return None
    config = json.loads(layout.flow(prior, "config.json").read_text())
    history = [json.loads(line) for line in layout.flow(prior, "history.jsonl").read_text().splitlines()]
    curves = {
        name: thinned([(int(row["step"]), float(row[name])) for row in history if row.get(name) is not None])
        for name in ("loss_bits_per_dim", "validation_bits_per_dim", "learning_rate", "images_per_second")
    }
    settings = {"prior": prior, **plan.model_dump(), "data": experiment.data.model_dump()}
    settings |= {"bits": experiment.bits, "seed": experiment.seed}
    return Record(
        group=common.group,
        kind="training",
        name=f"train {prior}",
        key=f"{experiment.name}/training/{prior}",
        settings=flat(settings),
        metrics=finite({name: config[name] for name in _NUMBERS if name in config})
        | facts.costs(job, layout.benchmark(step)),
        curves={name: curve for name, curve in curves.items() if curve},
        tags={"checkpoint": checkpoint_digest(layout, prior), **facts.job_tags(job)},
        marks=common.marks,
        inputs=tuple(common.images[split] for split in ("train", "validation") if split in common.images),
        artifacts={
            **{file: partial(shutil.copyfile, layout.flow(prior, file)) for file in _FILES},
            "settings.yaml": partial(write_settings, settings),
            **facts.log_of(layout, step),
        },
        started=facts.started(job),
        seconds=float(config.get("seconds", 0.0)),
        checkpoint=layout.flow(prior, _WEIGHTS).parent,
        call=facts.call_of(job),
    )


def checkpoint_digest(layout: Layout, prior: str) -> str:
    """Which weights a flow has: the start of their sha256."""
    return of_file(layout.flow(prior, _WEIGHTS)).partition(":")[2][:16]


def write_settings(settings: dict[str, Any], target: Path) -> None:
    """Settings as they were resolved, as YAML."""
    target.write_text(yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=False))
