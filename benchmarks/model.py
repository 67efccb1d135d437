"""What a part of the benchmark is asked and what it answers: rows with ratios, spreads and targets."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Options:
    """What a run was asked for.

    Attributes:
        quick: smaller problems and fewer rounds.
        out: folder for results, and for what is derived from the photographs.
        flow: checkpoint of a trained flow for `quality`; None: one is trained.
        images: uint8 test images (N, H, W, 3) of that flow, as .npy.
        results: folder of a finished workflow run, for `workflow_share`.
        device: where inversion, quality and training run, as torch names it.
        suite: the cases of inversion (`benchmarks.cases.SUITES`); None: by device and `quick`.
        ceiling: GFLOP/s of a matrix product on all threads.
    """

    quick: bool
    out: Path
    flow: Path | None = None
    images: Path | None = None
    results: Path | None = None
    device: str = "cpu"
    suite: str | None = None
    ceiling: float = math.nan


@dataclass(frozen=True)
class Ratio:
    """How many times `against`: median, lowest and highest of the rounds."""

    value: float
    low: float
    high: float
    against: str


@dataclass(frozen=True)
class Target:
    """What a row's ratio should be, or its value where it has no ratio.

    Attributes:
        kind: from which side.
        value: the bound.
        judged: False where a quick run is too small to judge by.
    """

    kind: Literal["at least", "at most"]
    value: float
    judged: bool = True

    def verdict(self, measured: float | None) -> str:
        """Met, missed, or not judged.

        Example:
            >>> Target("at least", 4).verdict(4.2), Target("at most", 2).verdict(None)
            ('met', 'missed')
        """
        if not self.judged:
            return "not judged"
        if measured is None:
            return "missed"
        return "met" if (measured >= self.value if self.kind == "at least" else measured <= self.value) else "missed"


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        case: the problem.
        contender: who solved it.
        value: median of the rounds, None where there is nothing to measure.
        unit: of the value.
        spread: lowest and highest of the rounds.
        ratio: against another contender of the same rounds.
        target: for the ratio, else for the value.
        note: a few words for the table.
        facts: more numbers, for the JSON and the plots.
    """

    case: str
    contender: str
    value: float | None = None
    unit: str = ""
    spread: tuple[float, float] | None = None
    ratio: Ratio | None = None
    target: Target | None = None
    note: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """What the target says of the row; empty without a target."""
        if self.target is None:
            return ""
        return self.target.verdict(self.ratio.value if self.ratio else self.value)


@dataclass(frozen=True)
class Part:
    """What one part measured.

    Attributes:
        title: what it is about.
        rows: the figures.
        notes: what a reader has to know.
        curves: lines for the plots: panel, label, x, y.
        seconds: how long it took.
    """

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    curves: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the verdicts."""
        facts = asdict(self)
        for entry, row in zip(facts["rows"], self.rows, strict=True):
            entry["verdict"] = row.verdict
        return facts


def say(text: str) -> None:
    """Tell the person at the terminal what is being done."""
    print(text, file=sys.stderr, flush=True)
