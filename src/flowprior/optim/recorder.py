"""What is seen on the way of a search."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowprior.optim.problem import PASSES, Terms

#: From images (N, C, H, W) to named values per image (N,); called at recorded steps, outside the clock.
Observer = Callable[[Tensor], dict[str, Tensor]]

_RECORDS = 30


@dataclass(frozen=True)
class Trace:
    """What was seen on the way, at T recorded steps of N images.

    Attributes:
        passes: through the network per image so far, forward and backward (T,).
        seconds: time so far, of the whole batch (T,).
        values: name -> (T, N): "loss", "data_fit", "neg_log_prob", and whatever the observer named.
    """

    passes: Tensor
    seconds: Tensor
    values: dict[str, Tensor] = field(default_factory=dict)


class Recorder:
    """Collects the trace at about 30 steps, denser at the start, and keeps the observer's time off the clock.

    Args:
        steps: of the whole search, at most.
        finish: applied to images of all rows before they are observed.
        observer: asked at recorded steps.
        progress: told of (steps done, steps in all).
        started: `time.perf_counter()` when work on the start began; default: now.

    Attributes:
        before: steps of the stages before the present one.
    """

    def __init__(
        self,
        steps: int,
        finish: Callable[[Tensor], Tensor] = lambda images: images,
        observer: Observer | None = None,
        progress: Callable[[int, int], None] | None = None,
        started: float | None = None,
    ) -> None:
        self._steps, self._finish, self._observer, self._progress = steps, finish, observer, progress
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
        if self._progress:
            self._progress(self.before + step, self._steps)

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
        if self._observer:
            with torch.no_grad():
                seen |= self._observer(self._finish(terms.images.detach()).clamp(0, 1))
        for name, value in seen.items():
            self._values.setdefault(name, []).append(value.detach().cpu())
        self._paused += time.perf_counter() - pause

    def trace(self) -> Trace:
        """What was recorded."""
        steps, seconds = zip(*self._at, strict=True)
        return Trace(
            PASSES * torch.tensor(steps, dtype=torch.float32),
            torch.tensor(seconds),
            {name: torch.stack(values) for name, values in self._values.items()},
        )
