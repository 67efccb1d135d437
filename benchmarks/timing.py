"""Contenders timed in turns: A, B, A, B, ..., so that whatever slows the machine slows all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.model import Ratio

Clock = Callable[[], float]


@dataclass(frozen=True)
class Contender:
    """Who is timed.

    Attributes:
        run: does so many steps; may return the seconds by its own clock, which then count.
        work: what one step does, in the unit of the rates (images, mostly).
        least: no timed run has fewer steps.
    """

    run: Callable[[int], float | None]
    work: float = 1.0
    least: int = 5


@dataclass(frozen=True)
class Timing:
    """How fast a contender was: work per second in each round, in runs of so many steps."""

    steps: int
    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.rates)

    @property
    def spread(self) -> tuple[float, float]:
        """Lowest and highest of the rounds."""
        return min(self.rates), max(self.rates)


def interleaved(
    contenders: Mapping[str, Contender], seconds: float, rounds: int, clock: Clock = time.perf_counter
) -> dict[str, Timing]:
    """Time contenders in turns, after a warm-up of each.

    Args:
        contenders: name -> contender; they take their turns in this order.
        seconds: about how long one timed run is to last.
        rounds: timed runs of each contender.
        clock: seconds, replaced in tests.
    """
    steps = {name: _enough(contender, seconds, clock) for name, contender in contenders.items()}
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            rates[name].append(steps[name] * contender.work / _spent(contender, steps[name], clock))
    return {name: Timing(steps[name], tuple(found)) for name, found in rates.items()}


def ratio(of: Timing, to: Timing, against: str) -> Ratio:
    """How many times as fast, round by round: what both suffered in a round cancels.

    Example:
        >>> ratio(Timing(1, (8.0, 4.0, 6.0)), Timing(1, (2.0, 1.0, 1.0)), "plain").value
        4.0
    """
    rounds = [a / b for a, b in zip(of.rates, to.rates, strict=True)]
    return Ratio(statistics.median(rounds), min(rounds), max(rounds), against)


def _enough(contender: Contender, seconds: float, clock: Clock) -> int:
    """Steps that take about so many seconds; asking is the warm-up."""
    few = min(2, contender.least)
    each = _spent(contender, few, clock) / few
    # The first steps also build, allocate and start threads: only if they were quick does a better estimate pay.
    if each * contender.least < seconds:
        each = _spent(contender, contender.least, clock) / contender.least
    return max(contender.least, math.ceil(seconds / max(each, 1e-9)))


def _spent(contender: Contender, steps: int, clock: Clock) -> float:
    started = clock()
    own = contender.run(steps)
    return clock() - started if own is None else own
