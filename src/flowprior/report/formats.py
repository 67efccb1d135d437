"""Numbers as a reader sees them. What is not a number is a dash, never "nan"."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowprior.evaluation.registry import Metric

DASH = "—"
#: The minus sign, as wide as a plus; ASCII has only a hyphen.
MINUS = "\u2212"


def number(value: float | None, digits: int = 2) -> str:
    """A number with so many decimals.

    Example:
        >>> number(28.312), number(float("nan"))
        ('28.31', '—')
    """
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    return f"{value:.{digits}f}".replace("-", MINUS)


def unit(value: float | None, digits: int = 3) -> str:
    """A number between 0 and 1 without its leading zero, as papers print SSIM.

    Example:
        >>> unit(0.9181), unit(1.0)
        ('.918', '1.000')
    """
    text = number(value, digits)
    return text.replace("0.", ".", 1) if text.lstrip(MINUS).startswith("0.") else text


def written(metric: Metric, value: float | None) -> str:
    """A value of a metric, with its digits."""
    return unit(value, metric.digits) if metric.fraction else number(value, metric.digits)


def between(metric: Metric, low: float | None, high: float | None) -> str:
    """An interval of a metric in brackets; empty where there is none."""
    ends = written(metric, low), written(metric, high)
    return "" if DASH in ends else f"[{ends[0]}, {ends[1]}]"


def signed(value: float | None, digits: int = 2) -> str:
    """A difference with its sign.

    Example:
        >>> signed(0.512), signed(-0.512), signed(0.001)
        ('+0.51', '−0.51', '0.00')
    """
    text = number(value, digits)
    if text == DASH or not any(digit in text for digit in "123456789∞"):
        return text.lstrip(MINUS)
    return text if text.startswith(MINUS) else f"+{text}"


def interval(low: float | None, high: float | None, digits: int = 2, plus: bool = False) -> str:
    """An interval in brackets; empty where there is none.

    Example:
        >>> interval(28.1, 28.5)
        '[28.10, 28.50]'
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    write = signed if plus else number
    return f"[{write(low, digits)}, {write(high, digits)}]"


def verdict(low: float, high: float) -> str:
    """What a 95 % interval of a difference says: "better", "worse" or "level"; empty without an interval.

    Example:
        >>> verdict(0.1, 0.4), verdict(-0.1, 0.4)
        ('better', 'level')
    """
    if math.isnan(low) or math.isnan(high):
        return ""
    return "better" if low > 0 else "worse" if high < 0 else "level"


def duration(seconds: float | None) -> str:
    """A time as a person says it.

    Example:
        >>> duration(0.0312), duration(75.0), duration(7300.0)
        ('31.2 ms', '1 min 15 s', '2 h 1 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return DASH
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count(value: float | None) -> str:
    """A whole number with thin spaces between thousands.

    Example:
        >>> count(32700000.0)
        '32\u202f700\u202f000'
    """
    if value is None or not math.isfinite(value):
        return DASH
    return f"{round(value):,}".replace(",", "\u202f")
