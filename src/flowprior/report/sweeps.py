"""Hyperparameter curves: quality against the swept value, on validation and on test images."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flowprior.evaluation.registry import CHOSEN_BY, chosen_by
from flowprior.experiment.parts import Point
from flowprior.report.lines import Line
from flowprior.report.results import Results
from flowprior.report.style import TEXT_WIDTH, legend, message, new_figure


def swept_keys(points: tuple[Point, ...]) -> list[str]:
    """Settings that differ between points; the one to draw along, numeric with the most values, first.

    Example:
        >>> swept_keys((Point("a", {"x": 1.0, "steps": 9}, False), Point("b", {"x": 2.0, "steps": 9}, True)))
        ['x']
    """
    keys = list(dict.fromkeys(key for point in points for key in point.settings))
    values = {key: list(dict.fromkeys(str(point.settings.get(key)) for point in points)) for key in keys}
    varying = [key for key in keys if len(values[key]) > 1]
    numeric = {key: all(_is_number(point.settings.get(key)) for point in points) for key in varying}
    return sorted(varying, key=lambda key: (not numeric[key], -len(values[key])))


def at_an_edge(results: Results) -> list[tuple[str, Line, str]]:
    """Where validation images chose the lowest or highest of the numbers that were tried: beyond may be better.

    Returns:
        (task, line, "setting=value") of each.
    """
    found = []
    for task in results.experiment.tasks:
        for line in results.lines_on(task):
            points = results.experiment.points(line.method, task)
            chosen = results.selected(task, line)
            settings = {point.label: point.settings for point in points}
            if chosen is None or chosen["setting"] not in settings:
                continue
            for key in swept_keys(points):
                values: list[Any] = [point.settings.get(key) for point in points]
                value = settings[chosen["setting"]].get(key)
                if all(map(_is_number, values)) and value in (min(values), max(values)):
                    found.append((task, line, f"{key}={value:g}"))
    return found


def hyperparameter_figure(results: Results) -> Figure:
    """One panel per task and method with several settings; the chosen one and the paper's are marked."""
    experiment = results.experiment
    panels: dict[tuple[str, str], list[Line]] = {}
    for task in experiment.tasks:
        for line in results.lines_on(task):
            if swept_keys(experiment.points(line.method, task)):
                panels.setdefault((task, line.method), []).append(line)
    tasks = list(dict.fromkeys(task for task, _ in panels))
    methods = [method for method in experiment.methods if any(method == name for _, name in panels)]
    figure = new_figure(max(TEXT_WIDTH, 1.45 * len(methods)), 1.55 * len(tasks) + 0.5)
    if not panels:
        message(figure, "No method had more than one setting.")
        return figure
    axes = figure.subplots(len(tasks), len(methods), squeeze=False, sharey="row")
    for row, task in zip(axes, tasks, strict=True):
        for axis, method in zip(row, methods, strict=True):
            lines = panels.get((task, method), [])
            for line in lines:
                _curves(axis, results, task, line)
            if not lines:
                axis.set_axis_off()
            if task == tasks[0]:
                axis.set_title(method, fontsize=8)
        first = next(axis for axis in row if axis.axison)
        first.set_ylabel(f"{task}\n{chosen_by().head}")
        first.tick_params(labelleft=True)
    drawn = [line for line in results.lines if any(line in lines for lines in panels.values())]
    several = len({line.method for line in drawn}) < len(drawn)
    legend(figure, drawn if several else (), _legend_handles())
    return figure


def _curves(axis: Axes, results: Results, task: str, line: Line) -> None:
    keys = swept_keys(results.experiment.points(line.method, task))
    points = {point.label: point for point in results.experiment.points(line.method, task)}
    means = results.means_of(task, line)
    means = means[means["setting"].isin(list(points))]
    along, rest = keys[0], keys[1:]
    values = [points[label].settings.get(along) for label in means["setting"]]
    # The values stand at equal distances: sweeps are short, uneven, and often begin at zero.
    order = _ordered(values)
    table = means.assign(
        x=[order.index(value) for value in values],
        curve=[str([points[label].settings.get(key) for key in rest]) for label in means["setting"]],
    )
    for _, curve in table.groupby("curve", sort=False):
        for split, style in (("test", "-"), ("validation", "--")):
            drawn = curve[curve["split"] == split].sort_values("x")
            # A hollow marker: validation.
            face = line.colour if split == "test" else "white"
            look: dict[str, Any] = {
                "color": line.colour,
                "mfc": face,
                "marker": "o",
                "markersize": 3,
                "linewidth": 1,
            }
            axis.plot(drawn["x"], drawn[CHOSEN_BY], style, **look)
    test = table[table["split"] == "test"].set_index("setting")
    chosen = results.selected(task, line)
    if chosen and chosen["setting"] in test.index:
        at = test.loc[chosen["setting"]]
        axis.plot([at["x"]], [at[CHOSEN_BY]], "o", mfc="none", mec="#222222", markersize=8, mew=1)
    for x in test.loc[test["paper"].astype(bool), "x"]:
        axis.axvline(float(x), color="#888888", linewidth=0.9, linestyle=":", zorder=0)
    axis.set_xlabel(along if not rest else f"{along}; curves: {', '.join(rest)}", fontsize=7)
    labels = [f"{value:g}" if _is_number(value) else str(value) for value in order]
    steep = sum(map(len, labels)) > 16
    axis.set_xticks(range(len(order)), labels, rotation=40 if steep else 0, ha="right" if steep else "center")
    axis.set_xlim(-0.4, len(order) - 0.6)
    axis.margins(y=0.12)


def _ordered(values: list[Any]) -> list[Any]:
    """Distinct values, numbers by size, words as they come."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct) if all(map(_is_number, distinct)) else distinct


def _legend_handles() -> list[Line2D]:
    grey: dict[str, Any] = {"color": "#555555", "marker": "o", "markersize": 3, "linewidth": 1}
    return [
        Line2D([], [], linestyle="-", label="test", **grey),
        Line2D([], [], linestyle="--", mfc="white", label="validation", **grey),
        Line2D([], [], linestyle="none", marker="o", mfc="none", mec="#222222", markersize=8, label="chosen"),
        Line2D([], [], color="#888888", linestyle=":", label="the paper's value"),
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
