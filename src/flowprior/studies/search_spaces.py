"""Latents or images: the question of Oberlin & Verm 2021, by paired differences on every task of an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import Field

from flowprior.errors import FlowpriorError
from flowprior.evaluation.registry import CHOSEN_BY, METRICS, known
from flowprior.evaluation.selection import choose, setting_means
from flowprior.evaluation.statistics import bootstrap_interval
from flowprior.registry import SettingsModel
from flowprior.studies.base import Study, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: In the place of a method: the best of the others that the study names, on validation images.
BEST = "best"


class SearchSpaces(Study):
    """Differences of two methods on the same test images with 95 % intervals, task by task.

    By default: what the image as search space gives (analysis - synthesis), what the log-determinant gives besides
    (map - analysis), and what a flow gives at all (the best linear estimate - the best of the three). Each
    stands with the setting that validation images chose, and so is the best of them chosen.
    """

    name = "search_spaces"
    caption = "Paired differences on test images with 95 % intervals; right of zero: the first method is better."
    reads_rows = True

    class Settings(SettingsModel):
        """Settings of `search_spaces`."""

        pairs: list[tuple[str, str]] = Field(
            [("analysis", "synthesis"), ("map", "analysis"), ("linear_mmse", BEST)],
            min_length=1,
            description="[method, other method]; other 'best': the best of all others named here",
        )
        y: str = Field(CHOSEN_BY, description="a metric")
        tasks: list[str] | None = Field(None, description="of the experiment; null: all")
        images: str = Field("test", description="test, or one of test_sets")

    def table(self, subject: Subject) -> pd.DataFrame:
        """Columns: task, method, other, against ("best" or the method's name), difference, low, high, images."""
        assert subject.rows is not None
        settings, rows = self.settings, subject.rows
        metric = next((one for one in known(rows) if one.name == settings.y), None)
        if metric is None:
            names = ", ".join(one.name for one in known(rows))
            raise FlowpriorError(f"y is '{settings.y}', and the metrics of these rows are {names}")
        rows = rows.assign(y=metric.values(rows))
        tasks = list(dict.fromkeys(rows["task"])) if settings.tasks is None else settings.tasks
        named = [name for name in dict.fromkeys(name for pair in settings.pairs for name in pair) if name != BEST]
        lines = []
        for task in tasks:
            found = {name: line for name in named if (line := _chosen(rows, task, name, settings.images)) is not None}
            for method, against in settings.pairs:
                others = [name for name in found if name != method]
                other = max(others, key=lambda name: found[name][1], default="") if against == BEST else against
                if method not in found or other not in found:
                    continue
                ours, theirs = found[method][0], found[other][0]
                common = ours.index[ours.index.isin(theirs.index)]
                difference = (ours[common] - theirs[common]).to_numpy()
                ends = bootstrap_interval(difference, subject.seed)
                lines.append((task, method, other, against, difference.mean(), *ends, len(common)))
        if not lines:
            raise FlowpriorError(f"no task has rows of two of {', '.join(named)}; name methods of the experiment")
        columns = ["task", "method", "other", "against", "difference", "low", "high", "images"]
        return pd.DataFrame(lines, columns=columns)

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """A panel for each pair, a line for each task."""
        tasks = list(dict.fromkeys(table["task"]))
        pairs = list(dict.fromkeys(zip(table["method"], table["against"], strict=True)))
        figure.set_size_inches(7.0, 1.0 + 0.2 * len(tasks))
        axes = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
        for axis, (method, against) in zip(axes, pairs, strict=True):
            for line in table[(table["method"] == method) & (table["against"] == against)].itertuples():
                place = tasks.index(str(line.task))
                colour = "#009E73" if line.low > 0 else "#D55E00" if line.high < 0 else "#555555"
                axis.plot([line.low, line.high], [place, place], color=colour, linewidth=2)
                axis.plot([line.difference], [place], "o", color=colour, markersize=4)
                if against == BEST:
                    axis.annotate(f" {line.other}", (line.high, place), fontsize=6, va="center", color="#777777")
            axis.axvline(0, color="#333333", linewidth=0.9, zorder=1)
            axis.set_title(f"{method} - {'best other' if against == BEST else against}")
            axis.set_xlabel(f"Δ {next(one.head for one in METRICS if one.name == self.settings.y)}")
            axis.margins(x=0.15 if against != BEST else 0.35)
        axes[0].set_yticks(range(len(tasks)), tasks)
        axes[0].set_ylim(len(tasks) - 0.5, -0.5)


def _chosen(rows: pd.DataFrame, task: str, method: str, images: str) -> tuple[pd.Series, float] | None:
    """The metric of each image with the setting that was chosen, and its mean PSNR on validation images."""
    line = rows[(rows["task"] == task) & (rows["method"] == method)]
    if line.empty:
        return None
    if line["prior"].nunique() > 1:
        names = ", ".join(dict.fromkeys(line["prior"]))
        raise FlowpriorError(f"method '{method}' ran with several priors ({names}); give it one for this study")
    means = setting_means(line)
    setting = choose(means)["validation"]
    own = means[(means["setting"] == setting) & (means["split"] == "validation")][CHOSEN_BY]
    there = line[(line["setting"] == setting) & (line["split"] == images)]
    if there.empty:
        return None
    # Without validation images there was nothing to choose: it comes after those that have them.
    return there.set_index("image")["y"], float(own.iloc[0]) if len(own) and np.isfinite(own.iloc[0]) else -np.inf
