"""A run as its files tell it, in a form that any tracking tool could take."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from flowprior.provenance.invocation import Invocation

#: More points than this make a tracking tool's pages slow and show nothing more.
CURVE_POINTS = 200

Curve = tuple[tuple[int, float], ...]


class ImageSet(NamedTuple):
    """Images that a run used.

    Attributes:
        name: such as "photos-32px test".
        digest: the start of their sha256.
        context: what for: "training", "validation" or "test".
        path: where they lay, relative to the repository.
        size: how many.
    """

    name: str
    digest: str
    context: str
    path: str
    size: int


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        group: what it is listed with: "<experiment>/<data set>".
        kind: "training", "reconstruction" or "aggregate".
        name: short, for a list of runs.
        key: identity within all groups; the same run of the pipeline always has the same.
        settings: flat settings.
        metrics: final numbers; what is not finite is left out.
        curves: name -> (step, value) along the way.
        tags: facts to filter by, none of which can change while the numbers stay.
        marks: facts that can: how a setting was chosen depends on the others, what is pinned on what lies there now.
        inputs: the images that were used.
        artifacts: file name -> function that writes the file.
        tables: file name -> function that gives the table.
        started: when the work began; None: unknown.
        seconds: how long it took.
        checkpoint: folder of the flow that was trained, else None.
        call: the call of the workflow that it ran in; None: unknown.
    """

    group: str
    kind: str
    name: str
    key: str
    settings: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[ImageSet, ...] = ()
    artifacts: Mapping[str, Callable[[Path], object]] = field(default_factory=dict)
    tables: Mapping[str, Callable[[], pd.DataFrame]] = field(default_factory=dict)
    started: datetime | None = None
    seconds: float = 0.0
    checkpoint: Path | None = None
    call: Invocation | None = None

    @property
    def digest(self) -> str:
        """Changes whenever what was measured changes."""
        facts: list[Any] = [self.group, self.kind, self.name, self.key, [tuple(images) for images in self.inputs]]
        facts += [dict(part) for part in (self.settings, self.metrics, self.curves, self.tags)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def thinned(points: Sequence[tuple[int, float]], count: int = CURVE_POINTS) -> Curve:
    """At most `count` of the points, spread evenly, first and last kept, those that are not finite left out.

    Example:
        >>> thinned([(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (4, 5.0)], count=3)
        ((0, 1.0), (2, 3.0), (4, 5.0))
    """
    points = [point for point in points if math.isfinite(point[1])]
    if len(points) <= count:
        return tuple(points)
    return tuple(points[round(i * (len(points) - 1) / (count - 1))] for i in range(count))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings with dotted names; numbers and words as they are, everything else as JSON, None left out.

    Example:
        >>> flat({"training": {"steps": 10, "patience": None}, "flips": True, "rates": [0.1, 0.2], "flow": "glow"})
        {'training.steps': '10', 'flips': 'true', 'rates': '[0.1, 0.2]', 'flow': 'glow'}
    """
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            found[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def finite(numbers: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that are finite, as floats."""
    return {name: float(value) for name, value in numbers.items() if math.isfinite(float(value))}
