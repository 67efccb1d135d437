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
from flowprior.provenance.job import JobFacts
from flowprior.records import facts
from flowprior.records.record import Record, finite, flat, thinned

if TYPE_CHECKING:
    from flowprior.experiment.layout import Layout
    from flowprior.experiment.parts import Training

_NUMBERS = ("energy_score", "parameters", "steps", "seconds")
_COPIED = ("picture", "config", "history")


def training_record(common: facts.Common, training: Training) -> Record | None:
    """The training of one model; None as long as it has not ended."""
    layout = common.layout
    experiment = layout.experiment
    if not all(layout.trained(training, name).exists() for name in ("weights", *_COPIED)):
        return None
    plan, step = experiment.priors[training.prior], Step.learning(training, experiment)
    job = JobFacts.read(layout.trained(training, "job"))
    wanted = {"prior": plan.model_dump(mode="json"), "bits": experiment.bits, "seed": experiment.seed}
    if training.task is not None:
        wanted["task"] = experiment.tasks[training.task].problem()
    if other := facts.other_params(job, wanted):
        kind = "flow" if plan.is_flow else "model"
        common.skip(f"the {kind} '{training.label}' was trained with other settings ({other}); run the workflow again")
        return None
    config = json.loads(layout.trained(training, "config").read_text())
    history = [json.loads(line) for line in layout.trained(training, "history").read_text().splitlines()]
    followed = sorted({name for row in history for name in row if name not in ("step", "seconds")})
    curves = {
        name: thinned([(int(row["step"]), float(row[name])) for row in history if row.get(name) is not None])
        for name in followed
    }
    scores = {name.removeprefix("validation_") for name in followed if name.startswith("validation_")}
    copied = [layout.trained(training, name) for name in _COPIED]
    settings = {"prior": training.prior, **plan.model_dump(), "data": experiment.data.model_dump()}
    settings |= {"bits": experiment.bits, "seed": experiment.seed}
    return Record(
        group=common.group,
        kind="training",
        name=f"train {training.label}",
        key="/".join([experiment.name, "training", training.prior, *([training.task] if training.task else [])]),
        settings=flat(settings),
        metrics=finite({name: config[name] for name in (*sorted(scores), *_NUMBERS) if name in config})
        | facts.costs(job, layout.benchmark(step)),
        curves={name: curve for name, curve in curves.items() if curve},
        tags={"checkpoint": checkpoint_digest(layout, training), **facts.job_tags(job)},
        marks=common.marks,
        inputs=tuple(common.images[split] for split in ("train", "validation") if split in common.images),
        artifacts={
            **{path.name: partial(shutil.copyfile, path) for path in copied},
            "settings.yaml": partial(write_settings, settings),
            **facts.log_of(layout, step),
        },
        started=facts.started(job),
        seconds=float(config.get("seconds", 0.0)),
        # A tracking tool's registry holds flows, which are compared by one score.
        checkpoint=layout.trained(training, "weights").parent if plan.is_flow else None,
        call=facts.call_of(job),
    )


def checkpoint_digest(layout: Layout, training: Training) -> str:
    """Which weights a model has: the start of their sha256."""
    return of_file(layout.trained(training, "weights")).partition(":")[2][:16]


def write_settings(settings: dict[str, Any], target: Path) -> None:
    """Settings as they were resolved, as YAML."""
    target.write_text(yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=False))
