"""Every metric, declared once: adding one is a function and a line in `METRICS`.

Rows, choosing, summary and paired tables, LaTeX, the page, records and DVC's metrics all loop over this list.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from flowprior.evaluation.statistics import PSNR_CAP

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from flowprior.solvers.base import Result

_POSTERIOR = "flowprior.evaluation.uncertainty"
_IMAGES = "flowprior.evaluation.metrics"
_PERCEPTUAL = "flowprior.evaluation.perceptual"


@dataclass(frozen=True)
class Metric:
    """What is measured of a restored image, and how it is written.

    Attributes:
        name: its column in rows, and the stem of its columns in every table.
        place: module of its function, which has the metric's name unless `function` says otherwise.
        label: as readers see it.
        digits: decimals in tables.
        unit: "dB", or empty.
        better: which way is better; "level" where a value in between is, as of a coverage.
        needs: "images": the function takes (images, reference, data_range); "posterior": it takes (images, std,
            samples, reference) and gives NaN where a result has neither std nor samples.
        function: name of the function, if it is not the metric's.
        cap: with how much a larger value counts in means; None for no limit.
        fraction: whether it is written without its leading zero.
        interval: whether its mean stands with a standard deviation and a 95 % interval, and methods are compared by it.
        convention: whether it is a paper's own reading of another metric, which stands beside that paper's table only.
        optional: name of a function of `place` that says why the metric cannot be had here; empty where it always can.
    """

    name: str
    place: str
    label: str
    digits: int = 3
    unit: str = ""
    better: Literal["higher", "lower", "level"] = "higher"
    needs: Literal["images", "posterior"] = "images"
    function: str = ""
    cap: float | None = None
    fraction: bool = True
    interval: bool = True
    convention: bool = False
    optional: str = ""

    @property
    def head(self) -> str:
        """Label with its unit."""
        return f"{self.label} in {self.unit}" if self.unit else self.label

    @property
    def paired(self) -> tuple[str, str, str]:
        """Its columns in paired tables: difference and the ends of its interval."""
        ends = ("low", "high") if self.name == CHOSEN_BY else (f"{self.name}_low", f"{self.name}_high")
        return f"{self.name}_difference", *ends

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns in the summary."""
        parts = ("", "_low", "_high", "_std") if self.interval else ("",)
        return tuple(f"{self.name}{part}" for part in parts)

    def absent(self) -> str:
        """Why it cannot be computed here; empty where it can."""
        return str(self._imported(self.optional)()) if self.optional else ""

    def of(self, result: Result, reference: torch.Tensor) -> torch.Tensor:
        """One value per image of what a solver gave, float64 (N,)."""
        function = self._imported(self.function or self.name)
        if self.needs == "images":
            return function(result.images, reference, 1.0).double()
        return function(result.images, result.std, result.samples, reference).double()

    def values(self, rows: pd.DataFrame) -> np.ndarray:
        """Values of rows fit for a mean: at most `cap`, NaN where the rows are older than the metric."""
        import numpy as np

        if self.name not in rows:
            return np.full(len(rows), np.nan)
        values = rows[self.name].to_numpy(dtype=np.float64)
        return values if self.cap is None else np.where(np.isneginf(values), np.nan, np.minimum(values, self.cap))

    def gain(self, difference: float) -> float:
        """A difference as a gain: positive where the first of the two is better."""
        return -difference if self.better == "lower" else difference

    def _imported(self, function: str) -> Callable[..., Any]:
        return getattr(importlib.import_module(self.place), function)


#: By its mean on validation images settings are chosen, and the best baseline.
CHOSEN_BY = "psnr"
#: The summary's column of that mean.
VALIDATION = f"validation_{CHOSEN_BY}"
#: `PSNR_CAP` on the scale of Chávez 2021: half of it and of 20 log10(255).
_CHAVEZ_CAP = (PSNR_CAP + 20 * math.log10(255)) / 2
METRICS: tuple[Metric, ...] = (
    Metric("psnr", _IMAGES, "PSNR", 2, "dB", cap=PSNR_CAP, fraction=False),
    Metric("ssim", _IMAGES, "SSIM"),
    Metric("psnr_chavez2021", _IMAGES, "printed", 2, cap=_CHAVEZ_CAP, fraction=False, interval=False, convention=True),
    Metric(
        "coverage", _POSTERIOR, "coverage", better="level", needs="posterior", function="coverage_of", interval=False
    ),
    Metric(
        "crps",
        _POSTERIOR,
        "CRPS",
        4,
        better="lower",
        needs="posterior",
        function="crps_of",
        fraction=False,
        interval=False,
    ),
    Metric("haarpsi", _PERCEPTUAL, "HaarPSI"),
    Metric("lpips", _PERCEPTUAL, "LPIPS", better="lower", optional="lpips_absent"),
)
#: The summary's columns in the order that its readers know; those of other metrics come after them.
FIRST_COLUMNS = (
    *("task", "method", "setting", "selected_by", "n", "n_diverged", "psnr", "psnr_low", "psnr_high", "ssim"),
    *("seconds_per_image", "passes", "ssim_low", "ssim_high", "psnr_chavez2021", "prior", "solver", "dataset"),
    *("bits", "psnr_std", "ssim_std", "psnr_chavez2021_pooled", "validation_psnr", "baseline", "converged"),
    *("coverage", "crps"),
)
#: The same of the table of paired differences.
FIRST_PAIRED = (
    *("task", "method", "prior", "other", "other_prior", "n", "psnr_difference", "low", "high"),
    *("ssim_difference", "ssim_low", "ssim_high", "other_is_best_baseline"),
)


def metric(name: str) -> Metric:
    """The metric of a name."""
    return next(one for one in METRICS if one.name == name)


def chosen_by() -> Metric:
    """The metric by which settings are chosen."""
    return metric(CHOSEN_BY)


def available() -> list[Metric]:
    """Those that can be computed here."""
    return [one for one in METRICS if not one.absent()]


def left_out() -> list[str]:
    """Why some cannot be computed here, one line each."""
    return [f"metric '{one.name}' is left out: {one.absent()}" for one in METRICS if one.absent()]


def known(table: pd.DataFrame) -> list[Metric]:
    """Those that a table has, and those that every row of this version has: an optional one is not missed."""
    return [one for one in METRICS if one.name in table or not one.optional]


def judging(rows: pd.DataFrame) -> list[Metric]:
    """Those without a finite value of which an image counts as failed."""
    return [one for one in METRICS if one.needs == "images" and not one.optional and one.name in rows]


def compared(table: pd.DataFrame) -> list[Metric]:
    """Those with an interval that a table has a value of: the columns of what readers see."""
    return [one for one in METRICS if one.interval and one.name in table and table[one.name].notna().any()]
