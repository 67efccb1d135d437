"""How figures look, and how they are written: PNG and PDF, at the size they have in a paper."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flowprior.files import replacing
from flowprior.report.lines import Line

#: Width in inches of a full page's text in a two-column paper.
TEXT_WIDTH = 7.0
#: Pixels per inch of the PNG.
DPI = 200

_RC: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text in the PDF
    "figure.dpi": 100,
    "axes.unicode_minus": True,
}


def styled() -> AbstractContextManager[None]:
    """A context in which figures are made; leaves matplotlib's settings as they were."""
    return matplotlib.rc_context(_RC)


def new_figure(width: float, height: float, arranged: bool = True) -> Figure:
    """An empty figure of so many inches, apart from any window or global state.

    Args:
        width: in inches.
        height: in inches.
        arranged: lay axes out so that nothing overlaps; otherwise the caller places them.
    """
    figure = Figure(figsize=(width, height), layout="constrained" if arranged else None)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, stem: Path) -> None:
    """Write `stem.png` and `stem.pdf`, the same bytes for the same figure."""
    for ending, options in (
        ("png", {"dpi": DPI, "metadata": {"Software": None}}),
        ("pdf", {"metadata": {"CreationDate": None}}),
    ):
        with replacing(stem.with_name(f"{stem.name}.{ending}")) as part:
            figure.savefig(part, **options)  # type: ignore[arg-type]


def legend(figure: Figure, lines: Sequence[Line], extra: Sequence[Line2D] = ()) -> None:
    """One legend for all panels, below them."""
    handles = [Line2D([], [], color=line.colour, marker=line.marker, label=line.label, linewidth=1.4) for line in lines]
    handles += list(extra)
    if not handles:
        return
    # As many columns as fit: a letter is about 0.6 of the font's size wide, a handle as wide as seven.
    letters = figure.get_figwidth() * 72 / (0.6 * 7.5)
    longest = max(len(str(handle.get_label())) for handle in handles) + 7
    columns = int(min(len(handles), max(letters // longest, 1)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def message(figure: Figure, text: str) -> None:
    """A figure that only says why there is nothing to draw."""
    figure.text(0.5, 0.5, text, ha="center", va="center", color="#666666")
