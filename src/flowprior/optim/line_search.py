"""A strong-Wolfe line search on many rows at once: each row is at its own point of its own search.

The search is a state and one function that takes what was found at the trial step one evaluation further
(Nocedal & Wright 2006, algorithms 3.5 and 3.6), so that one network evaluation serves every row, whichever
phase it is in.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_DECREASE, _CURVATURE = 1e-4, 0.9
#: Trials of one search; a smooth objective needs one or two.
_TRIALS = 20
_GROWTH = (1.5, 8.0)
_INSIDE = 0.1


class Line(NamedTuple):
    """Where each row's search stands; all (n,), step lengths and values in float64.

    Attributes:
        trial: step length to be evaluated next.
        low: best step length so far, with `low_value` and `low_slope`; at first 0.
        high: other end of the interval that holds a good step, with `high_value`, `high_slope`; once `bracketed`.
        bracketed: whether such an interval is known.
        tries: trials so far.
        forced: the trial is the best one known, to be taken whatever its slope.
        undefined: whether a trial was not finite.
    """

    trial: Tensor
    low: Tensor
    low_value: Tensor
    low_slope: Tensor
    high: Tensor
    high_value: Tensor
    high_slope: Tensor
    bracketed: Tensor
    tries: Tensor
    forced: Tensor
    undefined: Tensor


def begin(trial: Tensor, value: Tensor, slope: Tensor) -> Line:
    """A search along directions on which the objective is `value` and falls by `slope` < 0 at 0; (n,) each."""
    zero, no = torch.zeros_like(value), torch.zeros_like(value, dtype=torch.bool)
    return Line(trial, zero, value, slope, zero, value, slope, no, torch.zeros_like(value, dtype=torch.long), no, no)


def advance(
    line: Line, value0: Tensor, slope0: Tensor, value: Tensor, slope: Tensor, epsilon: float
) -> tuple[Line, Tensor, Tensor]:
    """Judge the trial step, and choose the next one.

    Args:
        line: the searches.
        value0: objective at step 0 (n,).
        slope0: its slope there (n,), negative.
        value: objective at the trial (n,); not finite: too far.
        slope: its slope there (n,).
        epsilon: relative accuracy of values. Within it, slopes alone decide (Hager & Zhang 2005, Eq. 23): near the
            optimum, differences of values are rounding.

    Returns:
        The searches one trial further, which rows accept their trial, and which give up without a better point.
    """
    finite = torch.isfinite(value) & torch.isfinite(slope)
    value = torch.where(finite, value, torch.inf)
    slope = torch.where(finite, slope, 0.0)
    falls = value <= value0 + _DECREASE * line.trial * slope0
    level = (value <= value0 + epsilon * value0.abs()) & (slope <= (2 * _DECREASE - 1) * slope0)
    flat = slope.abs() <= -_CURVATURE * slope0
    accept = finite & (line.forced | (flat & (falls | level)))

    too_far = ~falls | (value >= line.low_value)
    turned = torch.where(line.bracketed, slope * (line.high - line.low) >= 0, slope >= 0)
    # The trial becomes the high end, or the low end; in the latter case the old low end may become the high one.
    new_low = ~too_far
    high, high_value, high_slope = (
        torch.where(too_far, now, torch.where(turned, low, old))
        for now, low, old in (
            (line.trial, line.low, line.high),
            (value, line.low_value, line.high_value),
            (slope, line.low_slope, line.high_slope),
        )
    )
    bracketed = line.bracketed | too_far | turned
    low = torch.where(new_low, line.trial, line.low)
    low_value = torch.where(new_low, value, line.low_value)
    low_slope = torch.where(new_low, slope, line.low_slope)
    inner = _inside(low, low_value, low_slope, high, high_value, high_slope)
    grown = _grown(line, value, slope)
    tries = line.tries + 1
    tired = (tries >= _TRIALS) | (bracketed & ((high - low).abs() <= 1e-9 * high.abs()))
    fail = ~accept & tired & (low <= 0)
    forced = tired & (low > 0)
    trial = torch.where(forced, low, torch.where(bracketed, inner, grown))
    undefined = line.undefined | ~finite
    after = Line(trial, low, low_value, low_slope, high, high_value, high_slope, bracketed, tries, forced, undefined)
    return after, accept, fail


def _cubic(a: Tensor, fa: Tensor, da: Tensor, b: Tensor, fb: Tensor, db: Tensor) -> Tensor:
    """Minimiser of the cubic through two points with slopes (Nocedal & Wright 2006, Eq. 3.59); may be NaN."""
    d1 = da + db - 3 * (fa - fb) / (a - b)
    d2 = (d1.square() - da * db).sqrt() * (b - a).sign()
    return b - (b - a) * (db + d2 - d1) / (db - da + 2 * d2)


def _inside(low: Tensor, fl: Tensor, dl: Tensor, high: Tensor, fh: Tensor, dh: Tensor) -> Tensor:
    """The next trial in an interval: the cubic's minimiser, kept off the ends; near `low` where `high` is no number."""
    width = high - low
    part = (_cubic(low, fl, dl, high, fh, dh) - low) / width
    part = torch.where(torch.isfinite(fh), part.nan_to_num(0.5), _INSIDE)
    return low + width * part.clamp(_INSIDE, 1 - _INSIDE)


def _grown(line: Line, value: Tensor, slope: Tensor) -> Tensor:
    """The next trial while no interval is known: the cubic's minimiser, further than the last by a bounded factor."""
    guess = _cubic(line.low, line.low_value, line.low_slope, line.trial, value, slope)
    least, most = _GROWTH
    return torch.minimum(torch.maximum(guess.nan_to_num(torch.inf), least * line.trial), most * line.trial)
