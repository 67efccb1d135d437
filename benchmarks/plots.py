"""The plots of a run, drawn from its JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.table import number
from flowprior.files import replacing
from flowprior.report.style import DPI, TEXT_WIDTH, new_figure, styled

_COLOURS = {"plain": "#999999", "frozen": "#5b8db8", "flowprior": "#c8452f"}
_CYCLE = ("#999999", "#8fbcd9", "#5b8db8", "#2b5c8a", "#2e8b57", "#c8452f")
_BEHIND: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
_TARGET: dict[str, Any] = {"color": "#333333", "linestyle": "--", "linewidth": 0.8}


def draw(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw every part that has a plot; returns the files."""
    drawn = []
    with styled():
        for name, paint in _PLOTS.items():
            part = report["parts"].get(name)
            if part is not None and part["rows"]:
                figure = paint(part)
                with replacing(folder / f"{name}.png") as path:
                    figure.savefig(path, dpi=DPI, metadata={"Software": None})
                drawn.append(folder / f"{name}.png")
    return drawn


def _inversion(part: Mapping[str, Any]) -> Figure:
    figure = new_figure(TEXT_WIDTH, 5.2)
    above, below = figure.subfigures(2, 1, height_ratios=(1.25, 1), squeeze=False)[:, 0]
    rows = _group(part, "flows")
    speed = above.subplots()
    _bars(speed, [row for row in rows if row["ratio"]], "times as fast as plain torch", by="case")
    colours = {name: _COLOURS[name] for name in ("frozen", "flowprior")}
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    # Above the bars: wherever among them it stood, a long one would reach it.
    speed.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)
    left, right = below.subplots(1, 2)
    _lines(left, _group(part, "batches"), "batch", "images in the batch", lambda row: row["value"])
    left.set_ylabel("image-iterations per second")
    _lines(right, _group(part, "sizes"), "size", "pixels a side", lambda row: 1e3 / row["value"])
    right.set_ylabel("ms per image and iteration")
    left.legend()
    return figure


def _quality(part: Mapping[str, Any]) -> Figure:
    curves = part["curves"]
    panels = list(dict.fromkeys(curve["panel"] for curve in curves))
    labels = list(dict.fromkeys(curve["label"] for curve in curves))
    figure = new_figure(TEXT_WIDTH, 4.8)
    axes = figure.subplots(2, 2).flatten()
    for panel, axis in zip(panels, axes, strict=False):
        for curve in (curve for curve in curves if curve["panel"] == panel):
            colour = _CYCLE[labels.index(curve["label"]) % len(_CYCLE)]
            known = [(x, y) for x, y in zip(curve["x"], curve["y"], strict=True) if x > 1e-3]
            axis.plot(*zip(*known, strict=True), color=colour, label=curve["label"])
        level = next(curve["level"] for curve in curves if curve["panel"] == panel)
        axis.axhline(level, **_TARGET)
        axis.set(xscale="log", title=panel, xlabel="seconds", ylabel="mean PSNR, dB")
        top = max(max(curve["y"]) for curve in curves if curve["panel"] == panel)
        axis.set_ylim(level - 8, top + 0.5)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def _training(part: Mapping[str, Any]) -> Figure:
    figure = new_figure(TEXT_WIDTH, 1.2)
    _bars(figure.subplots(), [row for row in part["rows"] if row["ratio"]], "times as fast as a plain loop", by="case")
    return figure


def _peers(part: Mapping[str, Any]) -> Figure:
    figure = new_figure(TEXT_WIDTH, 2.6)
    cases = list(dict.fromkeys(row["case"] for row in part["rows"] if row["ratio"]))
    axes = figure.subplots(1, max(1, len(cases)), sharey=True, squeeze=False)[0]
    for case, axis in zip(cases, axes, strict=True):
        rows = [row for row in part["rows"] if row["ratio"] and row["case"] == case]
        _bars(axis, rows, "flowprior is so many times as fast as", by="contender")
        axis.set_title(textwrap.fill(case, 40), fontsize=8)
    return figure


def _memory(part: Mapping[str, Any]) -> Figure:
    figure = new_figure(TEXT_WIDTH / 2, 2.4)
    axis = figure.subplots()
    axis.plot(
        *zip(*((row["facts"]["images"], row["value"]) for row in part["rows"]), strict=True),
        marker="o",
        color=_COLOURS["flowprior"],
    )
    axis.axhline(part["rows"][-1]["target"]["value"], **_TARGET)
    axis.set(xlabel="images of one job", ylabel="peak memory, GB", ylim=(0, None), xlim=(0, None))
    return figure


_PLOTS = {
    "inversion": _inversion,
    "quality": _quality,
    "training": _training,
    "peers": _peers,
    "memory": _memory,
}


def _group(part: Mapping[str, Any], name: str) -> list[Any]:
    return [row for row in part["rows"] if row["facts"].get("group") == name]


def _bars(axis: Axes, rows: list[Any], label: str, by: str) -> None:
    """Ratios as bars with their spread, targets as dashes across them; rows of one name share a tick."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        found = row["ratio"]
        spread = [[found["value"] - found["low"]], [found["high"] - found["value"]]]
        colour = _COLOURS.get(row["contender"], _COLOURS["flowprior"])
        axis.barh(place, found["value"], 0.7, xerr=spread, color=colour, error_kw={"linewidth": 0.8})
        axis.annotate(f" {found['value']:.1f}", (found["high"], place), va="center", fontsize=7, bbox=_BEHIND)
        if row["target"]:
            axis.plot([row["target"]["value"]] * 2, [place - 0.45, place + 0.45], **_TARGET)
        places.setdefault(row["facts"].get("label", row[by]), []).append(place)
    widest = max(max(row["ratio"]["high"], (row["target"] or {"value": 0})["value"]) for row in rows)
    centres = [sum(own) / len(own) for own in places.values()]
    axis.set_yticks(centres, [name.replace(" (", "\n(", 1) for name in places])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.axvline(1, color="#999999", linewidth=0.6)
    axis.set(xlabel=label, xlim=(0, 1.15 * widest))
    axis.grid(axis="y", visible=False)


def _lines(axis: Axes, rows: list[Any], key: str, label: str, value: Callable[[Any], float]) -> None:
    """A line for each contender, its figures beside the points."""
    for contender in dict.fromkeys(row["contender"] for row in rows):
        own = [row for row in rows if row["contender"] == contender]
        places, found = [row["facts"][key] for row in own], [value(row) for row in own]
        axis.plot(places, found, marker="o", color=_COLOURS[contender], label=contender)
        for place, height in zip(places, found, strict=True):
            text = number(height)
            axis.annotate(text, (place, height), (0, 5), textcoords="offset points", ha="center", fontsize=6.5)
    axis.set(xscale="log", yscale="log", xlabel=label)
    axis.set_xticks(sorted({row["facts"][key] for row in rows}))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:g}"))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:g}"))
    axis.margins(0.08, 0.15)
