"""The best linear estimate: posterior mean under a Gaussian prior, in closed form."""

from __future__ import annotations

import time

from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import LinearEstimate
from flowprior.operators.base import Operator
from flowprior.registry import NoiseStd, SettingsModel
from flowprior.solvers.base import Context, Result, Solver, closed_form_result
from flowprior.solvers.memory import operator_key


class LinearMMSE(Solver):
    """x = m + C A^T (A C A^T + sigma^2 I)^-1 (y - A m), with mean m and covariance C of the training images.

    No network at all: what a learned prior has to beat.
    """

    name = "linear_mmse"
    needs = LinearEstimate
    baseline = True

    class Settings(SettingsModel):
        """Settings of `linear_mmse`."""

        noise_std: NoiseStd = Field(0.005, gt=0, description="assumed noise of the measurement, on values in [0, 1]")

    def run(self, operator: Operator, y: Tensor, prior: LinearEstimate, context: Context) -> Result:
        """One linear solve for the whole batch; what no noise changes is made once per job, off the clock."""
        observed = context.remembered(("observed", operator_key(operator)), lambda: prior.observed(operator))
        started = time.perf_counter()
        images = observed.posterior_mean(y, self.settings.noise_std)
        return closed_form_result(images, started, context)
