"""Figures over methods: differences to the best baseline, and quality against cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from flowprior.evaluation.plots import cost_curve
from flowprior.evaluation.registry import CHOSEN_BY, chosen_by
from flowprior.report.costs import with_training
from flowprior.report.lines import Line
from flowprior.report.results import Results
from flowprior.report.style import TEXT_WIDTH, legend, message, new_figure

#: What the cost axis is called.
COSTS = {"seconds": "seconds per image", "passes": "network passes per image"}
#: Decibels shown below the best curve; a start far below would squeeze the rest.
_SHOWN = 16.0
#: Of a curve's whole time: what took less is at its start.
_LEAST_SHARE = 1e-3


def paired_figure(results: Results) -> Figure:
    """A forest plot: every method minus the best baseline, with its 95 % interval; one panel per task."""
    panels = []
    for task in results.experiment.tasks:
        baseline = results.best_baseline(task)
        if baseline is not None and len(results.lines_on(task)) > 1:
            panels.append((task, baseline))
    heights = [len(results.lines_on(task)) - 1 for task, _ in panels]
    figure = new_figure(TEXT_WIDTH, 0.9 + 0.42 * len(panels) + 0.17 * sum(heights))
    if not panels:
        message(figure, "There is no baseline to compare with.")
        return figure
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=[h + 0.6 for h in heights])[:, 0]
    for axis, (task, baseline) in zip(axes, panels, strict=True):
        others = [line for line in results.lines_on(task) if line.key != baseline.key]
        for position, line in enumerate(others):
            entry = results.difference(task, line, baseline)
            if entry is None or not np.isfinite(entry[f"{CHOSEN_BY}_difference"]):
                axis.text(0, position, "  not a number", va="center", fontsize=7, color=line.colour)
                continue
            middle = entry[f"{CHOSEN_BY}_difference"]
            low, high = (middle if not np.isfinite(entry[end]) else entry[end] for end in ("low", "high"))
            axis.plot([low, high], [position, position], color=line.colour, linewidth=2)
            axis.plot([middle], [position], color=line.colour, marker=line.marker, linestyle="none", markersize=5)
        axis.axvline(0, color="#333333", linewidth=0.9, zorder=1)
        axis.set_yticks(range(len(others)), [line.label for line in others])
        axis.set_ylim(len(others) - 0.4, -0.6)
        axis.grid(axis="y", visible=False)
        axis.set_title(f"{task}: difference to {baseline.label}", loc="left", fontsize=8)
    axes[-1].set_xlabel(f"paired difference of {chosen_by().head} (right of zero: better than the best baseline)")
    return figure


def cost_figure(results: Results, cost: str) -> Figure:
    """Mean PSNR over test images against what was spent, one panel per task, a line per method.

    Args:
        results: of an experiment.
        cost: "seconds" or "passes".
    """
    tasks = [task for task in results.experiment.tasks if results.lines_on(task)]
    columns = min(max(len(tasks), 1), 2)
    rows = -(-len(tasks) // columns)
    figure = new_figure(TEXT_WIDTH if columns == 2 else TEXT_WIDTH / 2 + 0.5, 2.15 * max(rows, 1) + 0.4)
    if not tasks:
        message(figure, "No method ran.")
        return figure
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, task in zip(axes, tasks, strict=False):
        best = max([_draw(axis, results, task, line, cost) for line in results.lines_on(task)], default=-np.inf)
        axis.margins(x=0.08, y=0.1)
        _scale(axis, cost)
        if np.isfinite(best):
            axis.set_ylim(bottom=max(axis.get_ylim()[0], best - _SHOWN))
        axis.set_title(task)
        axis.set_xlabel(COSTS[cost])
        axis.set_ylabel(chosen_by().head)
    for axis in axes[len(tasks) :]:
        axis.remove()
    # Before the first image a model was trained: time, and passes of another kind.
    lines = [replace(line, label=with_training(results, line)) for line in results.lines]
    legend(figure, lines if cost == "seconds" else results.lines, _extra(cost))
    return figure


def _draw(axis: Axes, results: Results, task: str, line: Line, cost: str) -> float:
    """Draw one method; returns its best mean PSNR."""
    chosen = results.selected(task, line) or {}
    curve = cost_curve(results.traces_of(task, line, str(chosen["setting"])))
    # The time axis has no place for what cost as good as nothing; passes begin with none: what the start alone gives.
    curve = curve[curve[cost] >= (0 if cost == "passes" else max(1e-9, _LEAST_SHARE * curve[cost].max()))]
    style: dict[str, Any] = {"color": line.colour, "marker": line.marker}
    if len(curve) > 1:
        axis.plot(curve[cost], curve[CHOSEN_BY], markevery=[len(curve) - 1], **style)
        return float(curve[CHOSEN_BY].max())
    spent = chosen["passes" if cost == "passes" else "seconds_per_image"]
    if np.isfinite(spent) and spent > 0:
        axis.plot([spent], [chosen[CHOSEN_BY]], linestyle="none", markersize=6, **style)
    else:
        axis.axhline(chosen[CHOSEN_BY], color=line.colour, linewidth=1, linestyle=(0, (2, 2)))
    return float(chosen[CHOSEN_BY])


def _scale(axis: Axes, cost: str) -> None:
    """Logarithmic, with plain numbers; passes from none on."""
    if cost != "passes":
        axis.set_xscale("log")
        _plain_ticks(axis)
        return
    most = max(1.0, axis.dataLim.x1)
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xlim(-0.2, 1.6 * most)
    ticks = [0, *(10**power for power in range(6) if 10**power <= 1.6 * most)]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


def _plain_ticks(axis: Axes) -> None:
    """Numbers such as 0.5 or 200 instead of powers; more of them where the axis is short."""
    low, high = axis.get_xlim()
    subs = (1.0,) if high / low > 300 else (1.0, 3.0) if high / low > 30 else (1.0, 2.0, 5.0)
    axis.xaxis.set_major_locator(LogLocator(subs=subs))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _extra(cost: str) -> list[Line2D]:
    if cost == "seconds":
        return []
    return [Line2D([], [], color="#777777", linewidth=1, linestyle=(0, (2, 2)), label="no network")]
