"""Many small problems as rows of one batch: what is minimised, how it is searched, and where a search came to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import Field
from torch import Tensor

from flowprior.precision import Precision
from flowprior.registry import SettingsModel

#: Passes of an evaluation with its gradient: forward and backward.
PASSES = 2
#: Steps over which progress is judged.
PATIENCE = 10
#: The tolerance by which searches of a fixed number of steps are judged.
JUDGED = 1e-5


class SearchSettings(SettingsModel):
    """How an iterative solver searches. The defaults are a fast protocol; Chávez 2021: 1500 steps, 0.005, constant."""

    optimiser: Literal["adam", "lbfgs"] = Field(
        "adam", description="adam, or L-BFGS with a history, a line search and a stop of its own for each image"
    )
    steps: int = Field(
        200, ge=1, description="network evaluations with gradient per image, at most; Adam adds one without at each end"
    )
    learning_rate: float = Field(
        0.1, gt=0, description="Adam's rate at its peak; for lbfgs the largest change of a value in the first step"
    )
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="Adam's rate: constant, or cosine decay to zero at the last of `steps`"
    )
    history: int = Field(10, ge=1, description="lbfgs: pairs of steps and gradient changes remembered per image")
    tolerance: float = Field(
        1e-5,
        ge=0,
        description="an image has converged, and stops, where ten steps gain less than this part of its loss; 0: all "
        "steps are taken",
    )
    stages: int = Field(1, ge=1, description="parts of equal steps, over which the data term grows to its full weight")
    first_data_weight: float = Field(1.0, gt=0, description="what the data term is multiplied by in the first stage")
    precision: Precision = Field(
        "float32",
        description="of the networks inside couplings where torch runs the flow (on a GPU); everything else, and the "
        "CPU's kernel, is float32",
    )

    @property
    def judged(self) -> float:
        """The tolerance by which a search is said to have converged, where it may not stop for it as well."""
        return self.tolerance or JUDGED


class Terms(NamedTuple):
    """An objective's value at one iterate, per row.

    Attributes:
        loss: what is minimised (N,).
        data_fit: its first term (N,).
        neg_log_prob: the prior's term before its weight (N,).
        images: the images that the iterate stands for (N, C, H, W), not clipped.
    """

    loss: Tensor
    data_fit: Tensor
    neg_log_prob: Tensor
    images: Tensor


#: Which rows of the problem an iterate belongs to: indices, or `slice(None)` for all.
Rows = Tensor | slice
#: From iterates (n, ...) and the rows they belong to, to `Terms` of these rows.
Objective = Callable[[Tensor, Rows], Terms]


def finite_rows(values: Tensor) -> Tensor:
    """Which rows of (N, ...) are finite throughout: (N,).

    Times zero, what is not finite becomes NaN, and so does its sum: a quarter of the time that `torch.isfinite` takes.

    Example:
        >>> finite_rows(torch.tensor([[1.0, 2.0], [3.0, float("inf")]]))
        tensor([ True, False])
    """
    return (values.detach() * 0.0).flatten(1).sum(1) == 0.0


class Stage(NamedTuple):
    """A part of a search: what it minimises, and its network evaluations with gradient per image, at most."""

    objective: Objective
    steps: int


class Searched(NamedTuple):
    """Where a search came to.

    Attributes:
        iterates: the last finite ones (N, ...).
        images: what they stand for (N, C, H, W), not clipped.
        alive: which rows stayed finite (N,).
        converged: which rows would gain no more than the tolerance (N,).
        passes: through the objective per row, forward and backward (N,).
        steps: those of the row that took longest, without the last where it had no gradient.
    """

    iterates: Tensor
    images: Tensor
    alive: Tensor
    converged: Tensor
    passes: Tensor
    steps: int
