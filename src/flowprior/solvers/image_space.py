"""Search over images x: what `map` and `analysis` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.models.flows.base import Evaluator
from flowprior.operators.base import Operator
from flowprior.optim.problem import Rows, SearchSettings, Terms
from flowprior.optim.stages import stages_of
from flowprior.randomness import keyed_rows
from flowprior.solvers.base import Context, Result
from flowprior.solvers.searching import search

#: From images (n, C, H, W) and the rows they belong to, to one value each (n,).
Penalty = Callable[[Tensor, Rows], Tensor]


class ImageSettings(SearchSettings):
    """Settings of every search over images."""

    learning_rate: float = Field(0.01, gt=0, description="Adam's rate, at its peak, on values in [0, 1]")
    init_std: float = Field(
        0.0,
        ge=0,
        description="standard deviation of the random part of the latent whose image the start 'zero_latent' is",
    )
    project: bool = Field(
        False,
        description="make A x = y exact by x + A_dagger(y - A x); only sensible where y has no noise",
    )

    @model_validator(mode="after")
    def _a_latent_is_spread(self) -> Self:
        start = getattr(self, "start", None)
        if self.init_std and start != "zero_latent":
            raise ValueError(
                f"init_std spreads a latent, and start is {start!r}; leave init_std out or set start: zero_latent"
            )
        return self


def search_images(
    operator: Operator,
    y: Tensor,
    start: Tensor,
    penalty: Penalty,
    settings: ImageSettings,
    context: Context,
    *,
    data_weight: Tensor,
    weight: Tensor | None = None,
    besides: Penalty | None = None,
    started: float,
    network: int,
    begun: int,
) -> Result:
    """min_x data_weight ||A x - y||^2 + weight * penalty(x) + besides(x), every row by itself.

    Args:
        operator: the measurement operator.
        y: measurements (N, ...).
        start: first images (N, C, H, W).
        penalty: the prior's term.
        settings: optimiser, and whether the end is projected.
        context: as a solver has it.
        data_weight: one value for each row (N,).
        weight: of the penalty, one value for each row (N,); None: 1.
        besides: a term that asks no prior.
        started: `time.perf_counter()` when work on the start began.
        network: passes that one pass through the objective takes.
        begun: passes that the start took.
    """

    def objective(x: Tensor, rows: Rows) -> Terms:
        data_fit = data_weight[rows] * (operator.A(x) - y[rows]).square().flatten(1).sum(1)
        term = penalty(x, rows)
        loss = data_fit + (term if weight is None else weight[rows] * term)
        return Terms(loss if besides is None else loss + besides(x, rows), data_fit, term, x)

    def finish(x: Tensor) -> Tensor:
        return x + operator.A_dagger(y - operator.A(x)) if settings.project else x

    return search(stages_of(objective, settings), start, settings, context, finish, started, network, begun)


@torch.no_grad()
def first_images(
    start: str, operator: Operator, y: Tensor, prior: Evaluator, settings: ImageSettings, context: Context
) -> tuple[Tensor, int]:
    """Where a search over images begins.

    Args:
        start: "measurement", "pseudo_inverse", "zero_latent" (G of zero and `init_std` of noise), or "uniform".
        operator: the measurement operator.
        y: measurements (N, ...).
        prior: for "zero_latent".
        settings: for `init_std`.
        context: seed and keys of random parts; images given by the caller come before what `start` says.

    Returns:
        Images (N, C, H, W), and how often the model was asked for them.

    Raises:
        FlowpriorError: the start does not go with the operator or the prior.
    """
    if context.start is not None:
        return context.start.clone(), 0
    match start:
        case "pseudo_inverse":
            return operator.A_dagger(y).clone(), 0
        case "uniform":
            pixels = [(context.seed, key, "start", "uniform") for key in context.keys]
            return keyed_rows(torch.rand, operator.shape, [*pixels]).to(y), 0
        case "zero_latent" if not hasattr(prior, "inverse"):
            raise FlowpriorError(
                f"start 'zero_latent' needs a model that decodes latents, and {type(prior).__name__} has none; "
                "use 'sample_moments' or 'pseudo_inverse'"
            )
        case "zero_latent":
            latent = y.new_zeros(len(y), prior.dimensions)
            if settings.init_std:
                # As searches over latents begin: both can be compared from the same starts.
                keys = [(context.seed, key, "start", 0) for key in context.keys]
                latent = settings.init_std * keyed_rows(torch.randn, (prior.dimensions,), [*keys]).to(y)
            return prior.inverse(latent)[0].clamp(0, 1), 1
    if tuple(y.shape[1:]) != tuple(operator.shape):
        raise FlowpriorError(
            f"start 'measurement' needs measurements shaped like images {tuple(operator.shape)}, "
            f"got {tuple(y.shape[1:])}; use 'pseudo_inverse' or 'zero_latent'"
        )
    return y.clone(), 0


def squared_latents(prior: Any) -> Penalty:
    """||F(x)||^2, the penalty of Eq. 4 of Oberlin & Verm 2021: no log-determinant."""
    return lambda x, rows: prior.forward(x)[0].square().sum(1)
