"""Several settings of one method at once: images times settings are the rows of one batch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor

from flowprior.operators.base import Operator
from flowprior.solvers.base import Observer, Result, solve
from flowprior.solvers.memory import Memory
from flowprior.solvers.registry import REGISTRY
from flowprior.solvers.sizing import rows_at_once, vectors_of


@dataclass(frozen=True)
class Solved:
    """Some images at one setting.

    Attributes:
        point: number of the setting.
        images: which images, in their order.
        result: theirs; seconds are their share of the batch's.
    """

    point: int
    images: slice
    result: Result


def solve_points(
    name: str,
    operator: Operator,
    y: Tensor,
    prior: Any,
    points: Sequence[Mapping[str, Any]],
    *,
    keys: Sequence[str],
    seed: int = 0,
    batch: int | Literal["auto"] = "auto",
    observer: Callable[[Tensor], Observer] | None = None,
    progress: Callable[[float], None] | None = None,
    memory: Memory | dict[Hashable, Any] | None = None,
) -> Iterator[Solved]:
    """Reconstruct images at each of several settings.

    Settings that differ only in what the solver takes per row (`Solver.per_row`: alpha, gamma, the assumed noise)
    share batches; the results are those of separate calls of `solve`.

    Args:
        name: a registered solver.
        operator: the measurement operator.
        y: measurements (N, *operator.measurement_shape).
        prior: as the solver needs.
        points: settings, one mapping each.
        keys: identity of each image.
        seed: seed of random starts.
        batch: rows solved together, or "auto": as many as memory holds, measured on one row.
        observer: from the numbers of a batch's images to its observer.
        progress: called with the part of all rows that is done, in [0, 1].
        memory: as in `solve`.

    Yields:
        Parts as they are solved; every (setting, image) once, settings of one group in order.

    Raises:
        FlowpriorError: a setting is misspelt or out of range; whatever `solve` raises.
    """
    settings = [REGISTRY.settings(name, dict(point)) for point in points]
    memory = Memory.of_caller(memory)
    if batch == "auto":
        vectors = max((vectors_of(each) for each in settings), default=1)
        own = max((REGISTRY.get(name)(each).own_values(operator.shape, prior) for each in settings), default=0)
        batch = rows_at_once(prior, vectors, memory.kernel, own, y.device)
    at_once = batch
    total, done = max(1, len(points) * len(y)), 0
    for shared, numbers in _groups(name, points):
        items = [(number, image) for number in numbers for image in range(len(y))]
        start = 0
        while start < len(items):
            part = items[start : start + at_once]
            images = torch.tensor([image for _, image in part])
            weights = {
                field: torch.tensor([points[number][field] for number, _ in part], dtype=y.dtype)
                for field in _varied(points, numbers, shared)
            }
            before = done

            def ahead(step: int, steps: int, before: int = before, count: int = len(part)) -> None:
                if progress:
                    progress((before + count * step / steps) / total)

            result: Result | None = None
            try:
                result = solve(
                    name,
                    operator,
                    y[images.to(y.device)],
                    prior,
                    keys=[keys[image] for _, image in part],
                    seed=seed,
                    observer=observer(images) if observer else None,
                    progress=ahead,
                    memory=memory,
                    weights=weights,
                    **shared,
                )
            except torch.cuda.OutOfMemoryError:
                # Another job may have come to this GPU since memory was asked for. No image depends on its batch.
                if len(part) == 1:
                    raise
            if result is None:
                # Only here: within `except` the error's traceback still holds what the batch had in memory.
                at_once = len(part) // 2
                print(f"flowprior: the GPU's memory is full; going on with {at_once} rows at once", file=sys.stderr)
                torch.cuda.empty_cache()
                continue
            start += len(part)
            done += len(part)
            yield from _parts(part, result)


def _groups(name: str, points: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, Any], list[int]]]:
    """Settings that may share a batch: what they have in common, and their numbers."""
    per_row = REGISTRY.get(name).per_row
    found: dict[str, tuple[dict[str, Any], list[int]]] = {}
    for number, point in enumerate(points):
        shared = {field: value for field, value in point.items() if field not in per_row}
        # Only settings that name the same fields: a field that is left out has its default.
        key = json.dumps([shared, sorted(set(point) - set(shared))], sort_keys=True, default=str)
        found.setdefault(key, (shared, []))[1].append(number)
    # One setting alone keeps its values as settings, so that they are checked against their ranges.
    return [(dict(points[numbers[0]]) if len(numbers) == 1 else shared, numbers) for shared, numbers in found.values()]


def _varied(points: Sequence[Mapping[str, Any]], numbers: list[int], shared: Mapping[str, Any]) -> list[str]:
    return [field for field in points[numbers[0]] if field not in shared]


def _parts(rows: list[tuple[int, int]], result: Result) -> Iterator[Solved]:
    start = 0
    for number, group in groupby(rows, key=lambda row: row[0]):
        images = [image for _, image in group]
        stop = start + len(images)
        yield Solved(number, slice(images[0], images[-1] + 1), _cut(result, start, stop))
        start = stop


def _cut(result: Result, start: int, stop: int) -> Result:
    share = (stop - start) / len(result.images)
    part = result.only(torch.arange(start, stop))
    return replace(
        part, seconds=result.seconds * share, trace=replace(part.trace, seconds=result.trace.seconds * share)
    )
