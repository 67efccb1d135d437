"""A search in stages, by the optimiser that its settings name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowprior.optim.adam import adam
from flowprior.optim.lbfgs import lbfgs
from flowprior.optim.problem import Searched, SearchSettings, Stage
from flowprior.optim.recorder import Recorder


def minimise(stages: Sequence[Stage], start: Tensor, settings: SearchSettings, recorder: Recorder) -> Searched:
    """Minimise an objective from a start, every row by itself.

    A row whose loss or gradient stops being finite goes back to its last finite iterate and stays there, no longer
    alive; the others go on.

    Args:
        stages: the objective, from iterates and their rows to `Terms`, of each part of the search.
        start: first iterates (N, ...).
        settings: the optimiser and its settings.
        recorder: takes the trace.
    """
    optimise = {"adam": adam, "lbfgs": lbfgs}[settings.optimiser]
    whole = torch.ones(len(start), dtype=torch.bool, device=start.device)
    found = Searched(start, start, whole, ~whole, torch.zeros((), device=start.device), 0)
    for stage in stages:
        recorder.begin(found.steps)
        now = optimise(stage, found.iterates, settings, recorder)
        now = now._replace(steps=found.steps + now.steps)
        if bool(found.alive.all()):
            found = now._replace(passes=found.passes + now.passes)
            continue
        # A row that diverged in an earlier stage stays where that left it.
        rows = found.alive.reshape(-1, *[1] * (start.ndim - 1))
        found = Searched(
            torch.where(rows, now.iterates, found.iterates),
            torch.where(found.alive.reshape(-1, 1, 1, 1), now.images, found.images),
            found.alive & now.alive,
            found.alive & now.converged,
            found.passes + found.alive * now.passes,
            now.steps,
        )
    return found
