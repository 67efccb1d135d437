"""What every iterative search shares: objectives over many rows, its settings, its trace, and `minimise`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from flowprior.models.precision import Precision
from flowprior.registry import SettingsModel
from flowprior.solvers.base import Context, Result, Trace

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

_RECORDS = 30


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
        evaluations: network evaluations, per row (N,).
        steps: those of the row that took longest, without the last where it had no gradient.
    """

    iterates: Tensor
    images: Tensor
    alive: Tensor
    converged: Tensor
    evaluations: Tensor
    steps: int


def minimise(
    stages: Sequence[Stage],
    start: Tensor,
    settings: SearchSettings,
    context: Context,
    finish: Callable[[Tensor], Tensor] = lambda images: images,
    started: float | None = None,
) -> Result:
    """Minimise an objective from a start, every row by itself.

    A row whose loss or gradient stops being finite is marked "diverged", goes back to its last finite iterate
    and stays there; the others go on.

    Args:
        stages: the objective, from iterates and their rows to `Terms`, of each part of the search.
        start: first iterates (N, ...).
        settings: the optimiser and its settings.
        context: observer and progress.
        finish: applied to images of all rows before they are recorded and returned.
        started: `time.perf_counter()` when work on the start began; default: now.

    Returns:
        The last iterates as images in [0, 1], with their trace.
    """
    from flowprior.optim.adam import adam
    from flowprior.optim.lbfgs import lbfgs

    optimise = {"adam": adam, "lbfgs": lbfgs}[settings.optimiser]
    recorder = Recorder(context, finish, settings.steps, started)
    whole = torch.ones(len(start), dtype=torch.bool, device=start.device)
    found = Searched(start, start, whole, ~whole, torch.zeros((), device=start.device), 0)
    for stage in stages:
        recorder.begin(found.steps)
        now = optimise(stage, found.iterates, settings, recorder)
        now = now._replace(steps=found.steps + now.steps)
        if bool(found.alive.all()):
            found = now._replace(evaluations=found.evaluations + now.evaluations)
            continue
        # A row that diverged in an earlier stage stays where that left it.
        rows = found.alive.reshape(-1, *[1] * (start.ndim - 1))
        found = Searched(
            torch.where(rows, now.iterates, found.iterates),
            torch.where(found.alive.reshape(-1, 1, 1, 1), now.images, found.images),
            found.alive & now.alive,
            found.alive & now.converged,
            found.evaluations + found.alive * now.evaluations,
            now.steps,
        )
    status = tuple("ok" if good else "diverged" for good in found.alive.tolist())
    return Result(
        finish(found.images).clamp(0, 1),
        status,
        (found.converged & found.alive).cpu(),
        found.evaluations.cpu(),
        recorder.seconds(),
        recorder.trace(),
    )


class Recorder:
    """Collects the trace at about 30 steps, denser at the start, and keeps the observer's time off the clock.

    Attributes:
        before: steps of the stages before the present one.
    """

    def __init__(
        self, context: Context, finish: Callable[[Tensor], Tensor], steps: int, started: float | None = None
    ) -> None:
        self._context, self._finish, self._steps = context, finish, steps
        self._started, self._paused = time.perf_counter() if started is None else started, 0.0
        self._wanted = {round(steps * (i / _RECORDS) ** 1.5) for i in range(_RECORDS + 1)} | {0, steps}
        self.before = 0
        self._at: list[tuple[int, float]] = []
        self._values: dict[str, list[Tensor]] = {}

    def begin(self, before: int) -> None:
        """Steps are from now on those of a stage that begins after so many."""
        self.before = before

    def seconds(self) -> float:
        """Seconds so far, the observer's left out."""
        return time.perf_counter() - self._started - self._paused

    def progress(self, step: int) -> None:
        """Say how many steps are done."""
        if self._context.progress:
            self._context.progress(self.before + step, self._steps)

    def wants(self, step: int) -> bool:
        """Whether this step enters the trace."""
        return self.before + step in self._wanted

    def record(self, step: int, terms: Terms) -> None:
        """Enter the terms of all rows after `step` evaluations; where a stage ends and the next begins, once."""
        if self._at and self._at[-1][0] >= self.before + step:
            return
        seen = {"loss": terms.loss, "data_fit": terms.data_fit, "neg_log_prob": terms.neg_log_prob}
        # Copies wait for a GPU, and come first: the clock is to show what is done, not what is queued.
        seen = {name: value.detach().cpu() for name, value in seen.items()}
        self._at.append((self.before + step, self.seconds()))
        pause = time.perf_counter()
        if self._context.observer:
            with torch.no_grad():
                seen |= self._context.observer(self._finish(terms.images.detach()).clamp(0, 1))
        for name, value in seen.items():
            self._values.setdefault(name, []).append(value.detach().cpu())
        self._paused += time.perf_counter() - pause

    def trace(self) -> Trace:
        """What was recorded."""
        steps, seconds = zip(*self._at, strict=True)
        return Trace(
            torch.tensor(steps, dtype=torch.float32),
            torch.tensor(seconds),
            {name: torch.stack(values) for name, values in self._values.items()},
        )
