"""Maximum a posteriori over the image itself, with the flow's full density."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.flows.base import Flow
from flowprior.operators.base import Operator
from flowprior.solvers.adam import AdamSettings, Terms, minimise
from flowprior.solvers.base import Context, Result, Solver
from flowprior.solvers.frozen import frozen


class MAP(Solver):
    """min_x ||A x - y||^2 / (2 sigma^2) - log p(x), log-determinant included, by Adam over x.

    Where the measurement is noise-free, sigma is a small assumed noise; it may differ from the true one, because a
    flow's density is not the truth either.
    """

    name = "map"

    class Settings(AdamSettings):
        """Settings of `map`."""

        noise_std: float = Field(0.02, gt=0, description="assumed noise of the measurement, on values in [0, 1]")
        learning_rate: float = Field(0.01, gt=0, description="Adam's rate, at its peak, on values in [0, 1]")
        start: Literal["measurement", "pseudo_inverse", "zero_latent"] = Field(
            "pseudo_inverse", description="first image: y itself, A_dagger y, or G(0)"
        )
        project: bool = Field(
            False,
            description="make A x = y exact by x + A_dagger(y - A x); only sensible where y has no noise",
        )

    def run(self, operator: Operator, y: Tensor, prior: Flow, context: Context) -> Result:
        """Search over x."""
        settings = self.settings
        weight = 0.5 / settings.noise_std**2

        def objective(x: Tensor) -> Terms:
            data_fit = weight * (operator.A(x) - y).square().flatten(1).sum(1)
            neg_log_prob = -prior.log_prob(x)
            return Terms(data_fit + neg_log_prob, data_fit, neg_log_prob, x)

        def finish(x: Tensor) -> Tensor:
            return x + operator.A_dagger(y - operator.A(x)) if settings.project else x

        with frozen(prior):
            return minimise(objective, _start(settings.start, operator, y, prior), settings, context, finish)


@torch.no_grad()
def _start(kind: str, operator: Operator, y: Tensor, prior: Flow) -> Tensor:
    if kind == "pseudo_inverse":
        return operator.A_dagger(y).clone()
    if kind == "zero_latent":
        return prior.inverse(y.new_zeros(len(y), prior.dimensions))[0].clamp(0, 1)
    if tuple(y.shape[1:]) != tuple(operator.shape):
        raise FlowpriorError(
            f"start 'measurement' needs measurements shaped like images {tuple(operator.shape)}, "
            f"got {tuple(y.shape[1:])}; use 'pseudo_inverse' or 'zero_latent'"
        )
    return y.clone()
