"""One picture of any size, restored by a flow of one size: overlapping tiles, blended.

Tiles are solved on their own, so only degradations that act on each place alike can be undone: noise, lost colour.
The margin of a tile counts less.
"""

from __future__ import annotations

import errno
import io
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from flowprior import operators, solvers
from flowprior.errors import FlowpriorError, UnknownNameError
from flowprior.experiment.artefacts import LEAVES
from flowprior.experiment.params import Experiment
from flowprior.experiment.pieces import model_facts, solver_facts
from flowprior.files import replacing
from flowprior.images.decode import read_picture
from flowprior.models import flows
from flowprior.models.flows.base import Flow
from flowprior.operators.base import Operator
from flowprior.operators.task import TaskSettings
from flowprior.progress import Progress
from flowprior.solvers.memory import Memory
from flowprior.solvers.sizing import rows_at_once, vectors_of

#: Share of a tile's side by which neighbours overlap.
OVERLAP = 0.5


class Asked(NamedTuple):
    """What a solver is asked with, and what a person should know of how that came."""

    settings: dict[str, Any]
    note: str = ""


def settings_for(
    experiment: Experiment, task: str, method: str, given: Mapping[str, Any], checkpoint: Path | None = None
) -> Asked:
    """A solver's settings: those of the experiment, of a sweep what validation images chose, and what a person gave.

    Raises:
        FlowpriorError: no such task or method, the method does not run on the task or uses no flow, or a
            setting is misspelt.
    """
    from flowprior.experiment.schema import check_settings

    if task not in experiment.tasks:
        raise UnknownNameError("task", task, experiment.tasks)
    if method not in experiment.methods:
        raise UnknownNameError("method", method, experiment.methods)
    solver = experiment.solver_of(method)
    needs = solver_facts(solver).needs
    if not any(needs in model_facts(flow).gives for flow in flows.names()):
        raise FlowpriorError(f"method '{method}' uses no flow; choose one that does, such as 'map'")
    if task not in experiment.tasks_of(method):
        raise FlowpriorError(f"method '{method}' has no settings for task '{task}' in experiment '{experiment.name}'")
    points = experiment.points(method, task)
    chosen = chosen_setting(experiment, task, method, checkpoint) if checkpoint is not None else None
    point = next((point for point in points if point.label == chosen), points[0])
    settings = {**point.settings, **given}
    check_settings("solver", solver, settings, f"method '{method}'")
    if len(points) == 1 or point.label == chosen:
        return Asked(settings)
    return Asked(
        settings,
        f"no results beside {checkpoint} say which of the {len(points)} settings of '{method}' validation images "
        f"choose; the first was taken: {point.label}",
    )


def chosen_setting(experiment: Experiment, task: str, method: str, checkpoint: Path) -> str | None:
    """The setting that validation images chose in the results that a checkpoint lies in; None where none say.

    Args:
        experiment: whose tasks and methods are meant; results of another are not asked.
        task: of the experiment.
        method: of the experiment.
        checkpoint: `results/<experiment>/flows/<prior>`.
    """
    folder = checkpoint.resolve()
    summary = folder.parent.parent / LEAVES["evaluate"].pattern("summary")
    if summary.parent.name != experiment.name or not summary.is_file():
        return None
    table = pd.read_csv(summary, keep_default_na=False)
    mask = (table["task"] == task) & (table["method"] == method) & (table["prior"] == folder.name)
    found = table.loc[mask & (table["selected_by"] == "validation"), "setting"]
    return str(found.iloc[0]) if len(found) else None


def restore_file(
    picture: Path,
    out: Path,
    flow: Flow,
    task: TaskSettings,
    solver: str,
    settings: Mapping[str, Any],
    batch: int | None = None,
) -> tuple[int, int]:
    """Read a picture, restore it, write it.

    Returns:
        How many tiles were solved, and how many of them diverged.

    Raises:
        FlowpriorError: the picture cannot be read or is smaller than the flow's images, or the output's
            ending is of no format that can be written, or its folder may not be written to.
    """
    _check_output(out)
    image = torch.from_numpy(np.array(read_picture(picture))).permute(2, 0, 1).float() / 255
    restored, tiles, diverged = restore(image, flow, task, solver, settings, batch)
    pixels = (restored.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    try:
        with replacing(out) as part:
            Image.fromarray(pixels).save(part)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise FlowpriorError(
            f"{out} cannot be written ({error.strerror or error}); use .png or another --out"
        ) from None
    return tiles, diverged


def restore(
    picture: Tensor, flow: Flow, task: TaskSettings, solver: str, settings: Mapping[str, Any], batch: int | None = None
) -> tuple[Tensor, int, int]:
    """Restore one degraded picture.

    Args:
        picture: (3, H, W) in [0, 1].
        flow: trained on images of its own size, (3, h, w), at most H and W.
        task: what happened to the picture.
        solver: a registered solver.
        settings: the solver's settings.
        batch: tiles solved together; None: as many as memory holds.

    Returns:
        The restored picture (3, H, W), the number of tiles, and how many of them diverged.

    Raises:
        FlowpriorError: the picture is smaller than the flow's images, or the operator's measurements are no
            pictures.
    """
    _, height, width = flow.shape
    operator = operators.build(task.operator, flow.shape, **task.settings)
    if picture.shape[1] < height or picture.shape[2] < width:
        raise FlowpriorError(
            f"the picture is {picture.shape[1]}x{picture.shape[2]}, smaller than the flow's "
            f"{height}x{width}; take a larger picture or a flow for smaller images"
        )
    if not _is_picture(operator):
        raise FlowpriorError(
            f"operator '{task.operator}' measures {tuple(operator.measurement_shape)} of a tile, which is no picture; "
            "choose a task whose measurements are pictures"
        )
    corners = [(top, left) for top in _starts(picture.shape[1], height) for left in _starts(picture.shape[2], width)]
    if len(corners) > 1 and not _same_everywhere(operator):
        raise FlowpriorError(
            f"operator '{task.operator}' treats some places of its {height}x{width} images differently and cannot be "
            f"tiled, got a picture of {picture.shape[1]}x{picture.shape[2]}; crop it to {height}x{width}"
        )
    total = torch.zeros_like(picture)
    weights = torch.zeros(picture.shape[1:])
    window = _window(height)[:, None] * _window(width)[None, :]
    progress = Progress(f"restore by {solver}", len(corners), sys.stderr)
    diverged = 0
    # What is derived from the flow is the same for every batch of tiles.
    memory = Memory()
    checked = solvers.REGISTRY.settings(solver, dict(settings))
    own = solvers.REGISTRY.get(solver)(checked).own_values(flow.shape, flow)
    batch = rows_at_once(flow, vectors_of(checked), own=own) if batch is None else batch
    for start in range(0, len(corners), batch):
        places = corners[start : start + batch]
        tiles = torch.stack([picture[:, top : top + height, left : left + width] for top, left in places])
        keys = [f"{top},{left}" for top, left in places]
        result = solvers.solve(
            solver, operator, _measurement(tiles, operator), prior=flow, keys=keys, memory=memory, **settings
        )
        diverged += sum(status != "ok" for status in result.status)
        for (top, left), tile in zip(places, result.images, strict=True):
            total[:, top : top + height, left : left + width] += tile * window
            weights[top : top + height, left : left + width] += window
        progress.update(start + len(places))
    return total / weights, len(corners), diverged


def _check_output(out: Path) -> None:
    """Before minutes are spent on a picture that can not be written."""
    known = Image.registered_extensions().get(out.suffix.lower())
    try:
        Image.new("RGB", (1, 1)).save(io.BytesIO(), known or "")
    except (KeyError, OSError, ValueError):
        raise FlowpriorError(f"unknown picture format '{out.suffix}' of {out}, or none in colour; use .png") from None
    if out.is_dir():
        raise FlowpriorError(f"{out} is a folder; name the picture to write, such as {out / 'restored.png'}")
    there = next(folder for folder in out.absolute().parents if folder.exists())
    if not there.is_dir():
        raise FlowpriorError(f"{there} is a file, so that {out} cannot be written; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise FlowpriorError(f"folder {there} may not be written to by this user; choose another --out")


def _is_picture(operator: Operator) -> bool:
    """Whether a measurement is a picture as large as an image, in its channels or in grey."""
    channels, height, width = operator.shape
    return tuple(operator.measurement_shape) in ((1, height, width), (channels, height, width))


def _measurement(tiles: Tensor, operator: Operator) -> Tensor:
    """The degraded tiles as the operator's measurements: grey ones where it gives one channel."""
    grey = operator.measurement_shape[0] == 1
    return tiles.mean(1, keepdim=True) if grey else tiles


def _same_everywhere(operator: Operator) -> bool:
    """Whether the operator does the same to every place of a constant image.

    One with a border of its own (a blur that sees zeros beyond it) would find a border in every tile that the picture
    does not have.
    """
    seen = operator.A(torch.ones(1, *operator.shape))
    return bool((seen - seen.mean()).abs().max() < 1e-4)


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin along one side, evenly spread so that they overlap by at least the share `OVERLAP`.

    Example:
        >>> _starts(32, 32), _starts(100, 32)
        ([0], [0, 14, 27, 41, 54, 68])
    """
    steps = math.ceil((length - tile) / (tile * (1 - OVERLAP)))
    return [round(i * (length - tile) / steps) for i in range(steps + 1)] if steps else [0]


def _window(size: int) -> Tensor:
    """Weights of a tile along one side: highest in the middle, small and positive at the margin."""
    return torch.sin((torch.arange(size) + 0.5) * math.pi / size) ** 2 + 1e-3
