"""The answer of a network that was trained for the task."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from flowprior.models.capabilities import Solves, passes_of
from flowprior.operators.base import Operator
from flowprior.registry import SettingsModel
from flowprior.solvers.base import Context, Result, Solver, closed_form_result


class RegressorSolver(Solver):
    """One pass of a model that knows this task and no other: no search, and nothing to choose.

    What a prior that knows no task has to answer to.
    """

    name = "regressor"
    needs = Solves
    baseline = True

    class Settings(SettingsModel):
        """It has none."""

    @torch.no_grad()
    def run(self, operator: Operator, y: Tensor, prior: Solves, context: Context) -> Result:
        """The model's images of the whole batch."""
        started = time.perf_counter()
        images = prior.solve(operator, y)
        result = closed_form_result(images, started, context)
        return replace(
            result,
            passes=torch.full((len(y),), float(passes_of(prior))),
            trace=replace(result.trace, passes=torch.full((1,), float(passes_of(prior)))),
        )
