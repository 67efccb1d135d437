"""A result by a search: what solvers that iterate share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from flowprior.optim.minimise import minimise
from flowprior.optim.problem import SearchSettings, Stage, finite_rows
from flowprior.optim.recorder import Recorder
from flowprior.solvers.base import Context, Result


def search(
    stages: Sequence[Stage],
    start: Tensor,
    settings: SearchSettings,
    context: Context,
    finish: Callable[[Tensor], Tensor] = lambda images: images,
    started: float | None = None,
    network: int = 1,
    begun: int = 0,
    latents: bool = False,
) -> Result:
    """Minimise an objective from a start, every row by itself; see `flowprior.optim.minimise`.

    Args:
        stages: the objective, from iterates and their rows to `Terms`, of each part of the search.
        start: first iterates (N, ...).
        settings: the optimiser and its settings.
        context: observer and progress.
        finish: applied to images of all rows before they are recorded and returned.
        started: `time.perf_counter()` when work on the start began; default: now.
        network: passes that one pass through the objective takes (`flowprior.models.capabilities.passes_of`).
        begun: passes that the start took.
        latents: whether iterates are latents, which the result is to hold.

    Returns:
        The last iterates as images in [0, 1], with their trace; a row that broke off is "diverged",
        and black where nothing of it was finite.
    """
    recorder = Recorder(settings.steps, finish, context.observer, context.progress, started)
    found = minimise(stages, start, settings, recorder)
    trace = recorder.trace()
    status = tuple("ok" if good else "diverged" for good in found.alive.tolist())
    images = finish(found.images).clamp(0, 1)
    # Not even the first iterate of such a row was finite: there is no picture of it.
    images = torch.where(finite_rows(images).reshape(-1, *[1] * (images.ndim - 1)), images, 0.0)
    return Result(
        images,
        status,
        (found.converged & found.alive).cpu(),
        begun + network * found.passes.cpu(),
        recorder.seconds(),
        replace(trace, passes=begun + network * trace.passes),
        latents=found.iterates if latents else None,
    )
