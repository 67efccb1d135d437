"""Names of settings that stand side by side, for people and files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def labels_of(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Readable names of settings that stand side by side: four digits, or all where four do not tell them apart.

    Example:
        >>> labels_of([{"alpha": 0.05, "steps": 200}, {"alpha": 25 / 255}])
        ['alpha=0.05,steps=200', 'alpha=0.09804']
        >>> labels_of([{"alpha": 0.10001}, {"alpha": 0.10002}])
        ['alpha=0.10001', 'alpha=0.10002']
        >>> labels_of([{}])
        ['default']
    """
    short = [label(values, _four_digits) for values in settings]
    return short if len(set(short)) == len(short) else [label(values, str) for values in settings]


def label(values: dict[str, Any], written: Callable[[Any], str]) -> str:
    """Settings by name, in one order."""
    return ",".join(f"{key}={written(value)}" for key, value in sorted(values.items())) or "default"


def _four_digits(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
