"""Points behind the figures of papers, as their authors published them: CSV files of panel, line, x, psnr, images."""

from __future__ import annotations

import csv
from importlib.resources import files

from flowprior.errors import UnknownNameError


def names() -> tuple[str, ...]:
    """Every set of points that is here."""
    here = files("flowprior.studies.published")
    return tuple(sorted(entry.name.removesuffix(".csv") for entry in here.iterdir() if entry.name.endswith(".csv")))


def points_of(name: str) -> list[tuple[str, str, float, float, int]]:
    """The points of one figure: (panel, line, x, PSNR in dB, images that it is the mean of).

    Raises:
        UnknownNameError: no such set of points, naming the nearest.

    Example:
        >>> [round(y, 2) for _, line, x, y, _ in points_of("asim2020_cs") if line.startswith("Glow (") and x == 5000]
        [36.95]
    """
    if name not in names():
        raise UnknownNameError("published points", name, names())
    text = files("flowprior.studies.published").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return [
        (row["panel"], row["line"], float(row["x"]), float(row["psnr"]), int(row["images"]))
        for row in csv.DictReader(text.splitlines())
    ]
