"""A metric against a setting or against a property of the task, over all methods: most of a paper's figures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from flowprior.errors import FlowpriorError
from flowprior.evaluation.registry import CHOSEN_BY, METRICS, known
from flowprior.evaluation.selection import LINE, choose, setting_means
from flowprior.evaluation.statistics import bootstrap_interval
from flowprior.registry import SettingsModel
from flowprior.studies.base import Study, Subject
from flowprior.studies.published import points_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (
    "#D55E00",
    "#0072B2",
    "#009E73",
    "#AA3377",
    "#E69F00",
    "#56B4E9",
    "#332288",
    "#999933",
    "#8C510A",
    "#555555",
)
_MARKERS = "osD^vPXd<>"
_COLUMNS = ["panel", "line", "x", "y", "low", "high", "images", "whose"]


class Curves(Study):
    """Means over test images with 95 % intervals, a line per method and prior.

    Along a setting (`x: setting.gamma`) each task is a panel, every value of the setting is a point, and where other
    settings differ too the best of them on validation images stands; methods without that setting are level lines.
    Along a property of tasks (`x: task.measurements`, `x: task.noise_std`) there is one panel, and each point is a
    method on a task with what validation images chose.
    """

    name = "curves"
    caption = "Means over test images with 95 % intervals; hollow markers: as published, on other images."
    reads_rows = True
    reads_tasks = True

    class Settings(SettingsModel):
        """Settings of `curves`."""

        x: str = Field(description="setting.NAME of the methods, or task.NAME: noise_std or a setting of the operator")
        y: str = Field(CHOSEN_BY, description="a metric")
        tasks: list[str] | None = Field(None, description="of the experiment; null: all that have the property")
        methods: list[str] | None = Field(None, description="of the experiment; null: all")
        images: str = Field("test", description="test, or one of test_sets")
        published: str | None = Field(None, description="published points to draw besides")

        @field_validator("x")
        @classmethod
        def _of_a_method_or_a_task(cls, value: str) -> str:
            if value.partition(".")[0] not in ("setting", "task") or not value.partition(".")[2]:
                raise ValueError(f"x must be setting.NAME or task.NAME, got {value!r}")
            return value

    def table(self, subject: Subject) -> pd.DataFrame:
        """Columns: panel, line, x (NaN: at every x), y, low, high, images, whose ("ours" or "published")."""
        assert subject.rows is not None
        settings = self.settings
        rows = subject.rows
        for name, wanted in (("task", settings.tasks), ("method", settings.methods)):
            rows = rows if wanted is None else rows[rows[name].isin(wanted)]
        if rows.empty:
            raise FlowpriorError("no row is of these tasks and methods; name those of the experiment")
        metric = next((one for one in known(rows) if one.name == settings.y), None)
        if metric is None:
            names = ", ".join(one.name for one in known(rows))
            raise FlowpriorError(f"y is '{settings.y}', and the metrics of these rows are {names}")
        rows = rows.assign(y=metric.values(rows))
        kind, _, name = settings.x.partition(".")
        if settings.images not in set(rows["split"]) - {"validation"}:
            raise FlowpriorError(f"images is '{settings.images}', and these rows are of {_listed(rows['split'])}")
        along = _along_setting(rows, name) if kind == "setting" else _along_tasks(rows, name, subject)
        found = [(panel, line, x, own[own["split"] == settings.images]) for panel, line, x, own in along]
        lines = [
            (panel, line, x, own["y"].mean(), *bootstrap_interval(own["y"].to_numpy(), subject.seed), len(own), "ours")
            for panel, line, x, own in found
        ]
        if not any(np.isfinite(x) for _, _, x, *_ in lines):
            raise FlowpriorError(f"nothing here has {settings.x}; name a setting of a method, or of an operator")
        published = points_of(settings.published) if settings.published and settings.y == CHOSEN_BY else []
        panels = {panel for panel, *_ in lines}
        lines += [(p, line, x, y, np.nan, np.nan, n, "published") for p, line, x, y, n in published if p in panels]
        return pd.DataFrame(lines, columns=_COLUMNS)

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """One panel per task, or one altogether."""
        panels = list(dict.fromkeys(table["panel"]))
        names = list(dict.fromkeys(table["line"]))
        columns = min(len(panels), 2)
        figure.set_size_inches(7.0, 2.5 * -(-len(panels) // columns) + 0.5)
        axes = list(figure.subplots(-(-len(panels) // columns), columns, squeeze=False).flat)
        for axis, panel in zip(axes, panels, strict=False):
            self._panel(axis, table[table["panel"] == panel], names)
            axis.set_title(panel or "")
        for axis in axes[len(panels) :]:
            axis.remove()
        handles = {
            label: handle
            for axis in figure.axes
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)

    def _panel(self, axis: Axes, table: pd.DataFrame, names: list[str]) -> None:
        finite = table["x"][np.isfinite(table["x"])]
        positive = finite[finite > 0]
        if len(positive) and positive.max() / positive.min() > 20:
            axis.set_xscale("symlog", linthresh=float(positive.min()))
        for line, own in table.groupby("line", sort=False):
            place = names.index(str(line))
            style: dict[str, Any] = {"color": _COLOURS[place % len(_COLOURS)], "label": str(line)}
            ours = own[own["whose"] == "ours"].sort_values("x")
            theirs = own[own["whose"] == "published"].sort_values("x")
            level, curve = ours[ours["x"].isna()], ours[ours["x"].notna()]
            for _, entry in level.iterrows():
                axis.axhline(entry["y"], linestyle=(0, (3, 2)), linewidth=1, **style)
            if len(curve):
                axis.plot(curve["x"], curve["y"], marker=_MARKERS[place % len(_MARKERS)], **style)
                axis.fill_between(
                    curve["x"], curve["low"], curve["high"], color=style["color"], alpha=0.15, linewidth=0
                )
            if len(theirs):
                axis.plot(theirs["x"], theirs["y"], "o:", markerfacecolor="none", linewidth=0.8, **style)
        axis.set_xlabel(self.settings.x.partition(".")[2])
        axis.set_ylabel(next(one.head for one in METRICS if one.name == self.settings.y))


def _listed(names: pd.Series) -> str:
    return ", ".join(name for name in dict.fromkeys(names) if name != "validation")


def _label(method: str, prior: str, several: bool) -> str:
    return f"{method} ({prior})" if several else method


def _labels(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    pairs = list(rows[["method", "prior"]].drop_duplicates().itertuples(index=False, name=None))
    methods = [method for method, _ in pairs]
    return {(method, prior): _label(method, prior, methods.count(method) > 1) for method, prior in pairs}


def _along_setting(rows: pd.DataFrame, name: str) -> list[tuple[str, str, float, pd.DataFrame]]:
    """(task, line, value, rows) of each value of a setting; NaN where a method has no such setting."""
    labels, found = _labels(rows), []
    values = rows["settings"].map(lambda text: json.loads(text).get(name, np.nan))
    rows = rows.assign(x=pd.to_numeric(values, errors="coerce"))
    for (task, method, prior), line in rows.groupby(LINE, sort=False):
        label = labels[str(method), str(prior)]
        places = sorted(line["x"].dropna().unique().tolist()) or [np.nan]
        for x in places:
            own = line[line["x"] == x] if np.isfinite(x) else line
            chosen = choose(setting_means(own))["validation"]
            found.append((str(task), label, x, own[own["setting"] == chosen]))
    return found


def _along_tasks(rows: pd.DataFrame, name: str, subject: Subject) -> list[tuple[str, str, float, pd.DataFrame]]:
    """("", line, property, rows) of each method on each task that has the property."""
    labels, found = _labels(rows), []
    for (task, method, prior), line in rows.groupby(LINE, sort=False):
        problem = subject.tasks[str(task)]
        x = problem.settings.get(name, getattr(problem, name, None))
        if not isinstance(x, int | float):
            continue
        chosen = choose(setting_means(line))["validation"]
        found.append(("", labels[str(method), str(prior)], float(x), line[line["setting"] == chosen]))
    return found
