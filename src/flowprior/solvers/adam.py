"""Adam on many small problems at once: the loop that iterative solvers share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from flowprior.registry import SettingsModel
from flowprior.solvers.base import Context, Result, Trace


class AdamSettings(SettingsModel):
    """How an iterative solver searches. The defaults are a fast protocol; Chávez 2021: 1500 steps, 0.005, constant."""

    steps: int = Field(200, ge=1, description="iterations, each one network evaluation with its gradient")
    learning_rate: float = Field(0.1, gt=0, description="Adam's rate, at its peak")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="constant, or cosine decay to zero")


class Terms(NamedTuple):
    """An objective's value at one iterate, per image.

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


Objective = Callable[[Tensor], Terms]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_RECORDS = 30


def minimise(
    objective: Objective,
    start: Tensor,
    settings: AdamSettings,
    context: Context,
    finish: Callable[[Tensor], Tensor] = lambda images: images,
    started: float | None = None,
) -> Result:
    """Minimise an objective from a start, every row by itself.

    A row whose loss or gradient stops being finite is marked "diverged", goes back to its last finite iterate
    and stays there; the others go on.

    Args:
        objective: from iterates to `Terms`.
        start: first iterates (N, ...).
        settings: steps, rate and schedule.
        context: observer and progress.
        finish: applied to images before they are recorded and returned.
        started: `time.perf_counter()` when work on the start began; default: now.

    Returns:
        The last iterates as images in [0, 1], with their trace.
    """
    count = len(start)
    rows = (count,) + (1,) * (start.ndim - 1)
    variable, safe = start.clone(), start.clone()
    first, second = torch.zeros_like(start), torch.zeros_like(start)
    alive = torch.ones(count, dtype=torch.bool, device=start.device)
    spent = torch.zeros(count)
    recorder = _Recorder(context, finish, started)
    record_at = _recorded_steps(settings.steps)
    for step in range(settings.steps + 1):
        last = step == settings.steps
        variable.requires_grad_(not last)
        terms = objective(variable)
        finite = torch.isfinite(terms.loss) & torch.isfinite(terms.images).flatten(1).all(1)
        if not last:
            (gradient,) = torch.autograd.grad(terms.loss.sum(), variable)
            finite &= torch.isfinite(gradient).flatten(1).all(1)
        variable = variable.detach()
        if bool((alive & ~finite).any()):
            alive = alive & finite
            variable = torch.where(alive.reshape(rows), variable, safe)
        spent += alive.cpu().float()
        if step in record_at:
            recorder.record(step, terms)
        if last:
            break
        safe = variable
        first = _BETA1 * first + (1 - _BETA1) * gradient
        second = _BETA2 * second + (1 - _BETA2) * gradient.square()
        rate = settings.learning_rate * _decay(settings, step)
        scale = rate / (1 - _BETA1 ** (step + 1))
        denominator = (second / (1 - _BETA2 ** (step + 1))).sqrt() + _EPSILON
        # Frozen rows keep their place; where() instead of a product, because their moments may hold NaN.
        variable = torch.where(alive.reshape(rows), variable - scale * first / denominator, variable)
        if context.progress:
            context.progress(step + 1, settings.steps)
    images = terms.images
    if not bool(alive.all()):
        with torch.no_grad():
            images = torch.where(alive.reshape(count, 1, 1, 1), images, objective(variable).images)
    status = tuple("ok" if good else "diverged" for good in alive.tolist())
    return Result(finish(images.detach()).clamp(0, 1), status, spent, recorder.seconds(), recorder.trace())


def _decay(settings: AdamSettings, step: int) -> float:
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * step / settings.steps))


def _recorded_steps(steps: int) -> set[int]:
    """The first, the last, and about 30 in between, denser at the start."""
    inner = {round(steps * (i / _RECORDS) ** 1.5) for i in range(_RECORDS + 1)}
    return inner | {0, steps}


class _Recorder:
    """Collects the trace and keeps the observer's time off the clock."""

    def __init__(self, context: Context, finish: Callable[[Tensor], Tensor], started: float | None) -> None:
        self._context, self._finish = context, finish
        self._started, self._paused = time.perf_counter() if started is None else started, 0.0
        self._at: list[tuple[int, float]] = []
        self._values: dict[str, list[Tensor]] = {}

    def seconds(self) -> float:
        return time.perf_counter() - self._started - self._paused

    def record(self, evaluations: int, terms: Terms) -> None:
        self._at.append((evaluations, self.seconds()))
        pause = time.perf_counter()
        seen = {"loss": terms.loss, "data_fit": terms.data_fit, "neg_log_prob": terms.neg_log_prob}
        if self._context.observer:
            with torch.no_grad():
                seen |= self._context.observer(self._finish(terms.images.detach()).clamp(0, 1))
        for name, value in seen.items():
            self._values.setdefault(name, []).append(value.detach().cpu())
        self._paused += time.perf_counter() - pause

    def trace(self) -> Trace:
        steps, seconds = zip(*self._at, strict=True)
        return Trace(
            torch.tensor(steps, dtype=torch.float32),
            torch.tensor(seconds),
            {name: torch.stack(values) for name, values in self._values.items()},
        )
