"""Whether an experiment can work, asked before anything is made: the pieces are built, images are counted.

`flowprior.experiment.loading` checks what is written; this imports the pieces and tries them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flowprior import models, operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.experiment.params import Experiment
from flowprior.experiment.plan import fetched
from flowprior.images.registry import source_of
from flowprior.images.settings import DataSettings
from flowprior.models.beginning import begin_with
from flowprior.operators.base import Operator
from flowprior.studies.registry import REGISTRY as STUDIES

_CHANNELS = 3


def check_feasible(experiment: Experiment) -> None:
    """Build every model and operator once, take every setting through its own model, and count images.

    Raises:
        FlowpriorError: for the first that cannot work, naming it and the remedy.
    """
    side = experiment.data.resolution
    shape = (_CHANNELS, side, side)
    built = {name: _operator(experiment, name, shape) for name in experiment.tasks}
    made = {}
    for name, operator in built.items():
        other = experiment.learned_for(name)
        if operator.measurement_shape != (wanted := built[other].measurement_shape):
            raise FlowpriorError(
                f"task '{name}' is trained_as '{other}', but measures {operator.measurement_shape} and '{other}' "
                f"{wanted}; name a task with measurements of one shape, or leave trained_as out"
            )
    for name, prior in experiment.priors.items():
        with _named(f"prior '{name}'"), torch.device("meta"):
            made[name] = models.REGISTRY.get(prior.model)(shape, models.REGISTRY.settings(prior.model, prior.settings))
    for name, prior in experiment.priors.items():
        if prior.begin is not None:
            with _named(f"prior '{name}'"):
                begin_with(made[name], made[prior.begin], "")
    for name, asked in experiment.studies.items():
        with _named(f"study '{name}'"):
            STUDIES.settings(asked.study, asked.settings)
    for method in experiment.methods:
        solver = experiment.solver_of(method)
        experiment.priors_of(method)
        for task in experiment.tasks_of(method):
            with _named(f"method '{method}', task '{task}'"):
                for point in experiment.points(method, task):
                    solvers.REGISTRY.settings(solver, point.settings)
                if reason := solvers.REGISTRY.get(solver).skip(built[task]):
                    raise FlowpriorError(reason)
    check_counts(experiment)


def check_counts(experiment: Experiment) -> None:
    """Compare what an experiment asks for with the images that there are, where these can be listed yet.

    Raises:
        FlowpriorError: a split has fewer images than are asked for.
    """
    asked = {"train": 1, "validation": experiment.validation_images, "test": experiment.test_images}
    _check_data(experiment.data, "data", asked)
    for name, data in experiment.test_sets.items():
        _check_data(data, f"test_sets.{name}", {"test": experiment.measured_images(name)})
        _refuse_trained(experiment.data, data, name)


def _refuse_trained(own: DataSettings, other: DataSettings, name: str) -> None:
    """Stop where a folder's test set holds files that the models learn from or are selected on."""
    if (own.source, other.source) != ("folder", "folder"):
        return
    learned = {file for split in ("train", "validation") for file in _files(own, split)}
    if again := learned.intersection(_files(other, "test")):
        raise FlowpriorError(
            f"test set '{name}' holds {len(again)} images that data.path trains or selects on ({min(again)}, ...); "
            "name other images"
        )


def _files(data: DataSettings, split: str) -> list[str]:
    """Where the images of a split lie, so that a folder in another is seen as such."""
    raw = Path(data.raw).resolve()
    return [f"{raw}/{name}" for name in (_images(data) or {}).get(split, ())]


def _check_data(data: DataSettings, whose: str, asked: Mapping[str, int]) -> None:
    there = _images(data)
    for split, used in asked.items() if there is not None else ():
        limit: int | None = getattr(data, split)
        found = len((there or {}).get(split, ()))
        if limit is not None and limit > found:
            raise FlowpriorError(f"{whose}.{split} is {limit}, and there are {found} {split} images; set it to {found}")
        prepared = found if limit is None else limit
        if used > prepared:
            asks = "training" if split == "train" else f"{split}_images"
            held = f"{whose}.{split} leaves {prepared} of {found}" if limit is not None else f"there are {found}"
            here = "" if whose == "data" else f" of {whose}"
            raise FlowpriorError(f"{asks} takes {used} {split} images{here}, and {held}; ask for fewer or give more")


def _images(data: DataSettings) -> Mapping[str, Any] | None:
    """Split -> names; None where the images are still to be fetched and nothing says which they will be."""
    source = source_of(data)
    if fetched(data) and not source.known_before_fetching:
        return None
    with source:
        if not source.known_before_fetching:
            source.check()
        return source.splits()


def _operator(experiment: Experiment, name: str, shape: tuple[int, int, int]) -> Operator:
    task = experiment.tasks[name]
    with _named(f"task '{name}'"):
        return operators.build(task.operator, shape, **task.settings)


class _named:  # noqa: N801 - reads as the words that it puts before a message
    """Says whose an error is."""

    def __init__(self, whose: str) -> None:
        self._whose = whose

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Raise a user's error again with its place."""
        if isinstance(error, FlowpriorError):
            raise FlowpriorError(f"{self._whose}: {error}") from None
