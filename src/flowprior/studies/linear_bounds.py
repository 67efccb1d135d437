"""Theorem 1 of Asim et al. 2020 by simulation: the error of compressed sensing with a linear flow, and its bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator
from torch import Tensor

from flowprior.randomness import generator
from flowprior.registry import SettingsModel
from flowprior.studies.base import Study, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Name -> singular values s_1 >= s_2 >= ... of n.
SPECTRA = {
    "1 / i": lambda i: 1 / i,
    "1 / i^2": lambda i: 1 / i**2,
    "exp(-i / 10)": lambda i: np.exp(-i / 10),
}


class LinearBounds(Study):
    """E ||x_hat - x||^2 for x = G z, z ~ N(0, I), measured by m Gaussian rows, and the theorem's two bounds.

    With s_i the singular values of G in falling order and x_hat the most likely image among those that fit,
    sum_{i > m} s_i^2 <= E ||x_hat - x||^2 <= (m - 1) sum_{i > m-2} s_i^2 for m >= 4; the factor m - 1 is that of
    Theorem 10.5 of Halko et al. 2011 with k = m - 2 and p = 2.
    """

    name = "linear_bounds"
    caption = "Mean squared error of a linear flow against the number of measurements, between the bounds of theorem 1."

    class Settings(SettingsModel):
        """Settings of `linear_bounds`."""

        values: int = Field(100, ge=6, description="n, values of an image")
        measurements: list[int] = Field([4, 8, 16, 32, 64], min_length=1, description="numbers m of measurements")
        draws: int = Field(400, ge=2, description="matrices and images drawn for each m")

        @field_validator("measurements")
        @classmethod
        def _theorem_holds_from_four(cls, value: list[int]) -> list[int]:
            if min(value) < 4:
                raise ValueError(f"the theorem holds from 4 measurements on, got {min(value)}; leave it out")
            return value

    def table(self, subject: Subject) -> pd.DataFrame:
        """Columns: spectrum, measurements, error (a mean), standard_error, lower, upper."""
        rows = []
        index = np.arange(1, self.settings.values + 1)
        for name, spectrum in SPECTRA.items():
            s = torch.from_numpy(spectrum(index.astype(float)))
            for m in self.settings.measurements:
                source = generator(subject.seed, "linear_bounds", name, m)
                errors = recovery_errors(s, m, self.settings.draws, source)
                lower, upper = bounds(s, m)
                spread = float(errors.std() / len(errors) ** 0.5)
                rows.append((name, m, float(errors.mean()), spread, lower, upper))
        return pd.DataFrame(rows, columns=["spectrum", "measurements", "error", "standard_error", "lower", "upper"])

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """One panel per spectrum: the error with its standard error, within the bounds."""
        spectra = list(dict.fromkeys(table["spectrum"]))
        for axis, name in zip(figure.subplots(1, len(spectra), squeeze=False)[0], spectra, strict=True):
            own = table[table["spectrum"] == name]
            axis.fill_between(
                own["measurements"], own["lower"], own["upper"], color="#56B4E9", alpha=0.3, label="bounds"
            )
            axis.errorbar(
                own["measurements"], own["error"], 2 * own["standard_error"], color="#D55E00", marker="o", label="mean"
            )
            axis.set_yscale("log")
            axis.set_xscale("log")
            axis.set_title(f"singular values {name}", fontsize=8)
            axis.set_xlabel("measurements m")
            # A log axis names the numbers between its ticks, one over the other.
            places = sorted(own["measurements"].unique())
            axis.set_xticks(places, [str(place) for place in places])
            axis.minorticks_off()
        figure.axes[0].set_ylabel("squared error")
        figure.axes[0].legend()


def recovery_errors(s: Tensor, measurements: int, draws: int, source: torch.Generator) -> Tensor:
    """||x_hat - x||^2 of `draws` matrices and images (draws,).

    Gaussian rows are the same in every orthonormal basis, so that G = diag(s) stands for all matrices with these
    singular values. The most likely z among those with A G z = y is the least-norm one.

    Args:
        s: singular values of G (n,).
        measurements: m; with m = n and more there is no error.
        draws: how many.
        source: of the random numbers.
    """
    n = len(s)
    a = torch.randn(draws, measurements, n, generator=source, dtype=s.dtype) * s
    z = torch.randn(draws, n, 1, generator=source, dtype=s.dtype)
    # The part of z outside the row space of A G is what no measurement sees.
    rows = torch.linalg.qr(a.mT)[0]
    lost = z - rows @ (rows.mT @ z)
    return (s[:, None] * lost).square().sum((1, 2))


def bounds(s: Tensor, measurements: int) -> tuple[float, float]:
    """Lower and upper bound of the theorem.

    Example:
        >>> bounds(torch.ones(6), 4)
        (2.0, 12.0)
    """
    squares = s.square()
    return float(squares[measurements:].sum()), float((measurements - 1) * squares[measurements - 2 :].sum())
