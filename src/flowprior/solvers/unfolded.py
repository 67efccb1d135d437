"""The answer of an algorithm that was unfolded into a network for the task, fold by fold."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from flowprior.models.capabilities import Unfolds, passes_of
from flowprior.operators.base import Operator
from flowprior.optim.recorder import Trace
from flowprior.registry import SettingsModel
from flowprior.solvers.base import Context, Result, Solver, closed_form_result


class UnfoldedSolver(Solver):
    """K folds of a data step and a learned proximal map (Wei et al. 2022): no search, and nothing to choose.

    All images at once; the trace shows the image of the start and after each fold.
    """

    name = "unfolded"
    needs = Unfolds

    class Settings(SettingsModel):
        """It has none: what there is to set is the model's."""

    def run(self, operator: Operator, y: Tensor, prior: Unfolds, context: Context) -> Result:
        """The model's images of the whole batch."""
        started, paused, at = time.perf_counter(), 0.0, []
        seen: dict[str, list[Tensor]] = {}
        images = y.new_zeros(len(y), *operator.shape)
        for images in prior.solve_in_folds(operator, y):
            pause = time.perf_counter()
            at.append(pause - started - paused)
            for name, value in (context.observer(images.clamp(0, 1)) if context.observer else {}).items():
                seen.setdefault(name, []).append(value.detach().cpu())
            paused += time.perf_counter() - pause
        result = closed_form_result(images, started, replace(context, observer=None))
        passes = float(passes_of(prior))
        # The start and the folds share them evenly enough for a curve.
        trace = Trace(
            torch.linspace(0, passes, len(at)),
            torch.tensor(at),
            {name: torch.stack(values) for name, values in seen.items()},
        )
        return replace(
            result, passes=torch.full((len(y),), passes), trace=trace, seconds=time.perf_counter() - started - paused
        )
