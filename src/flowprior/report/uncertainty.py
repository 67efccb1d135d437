"""How sure methods are of what they found: their error beside the standard deviation that they expect, and draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from flowprior.experiment.maps import SAMPLES, Maps
from flowprior.report.formats import number, unit
from flowprior.report.grids import chosen_job, quantised, spread
from flowprior.report.lines import Line
from flowprior.report.results import Results
from flowprior.report.style import TEXT_WIDTH, message, new_figure

#: Test images of each method and task.
COUNT = 2
#: Of errors and standard deviations: from black, where a method is sure or right, to white.
_COLOURS = "inferno"
_HEADS = ("target", "found", "error", "std", *(f"sample {i + 1}" for i in range(SAMPLES)))
#: In units of a picture's side: gaps between pictures, the line of text below each, the title of a group and the heads.
_GAP, _TEXT, _TITLE = 0.04, 0.16, 0.42


@dataclass(frozen=True)
class Certainty:
    """What a method says of one image.

    Attributes:
        target: uint8 (H, W, 3).
        found: likewise.
        psnr: in dB, formatted.
        error: of the picture found, root mean square over channels (H, W), on values in [0, 1].
        std: what the method expects of it, likewise; None where it says nothing.
        covered: share of values within the method's 90 % intervals, formatted; empty where unknown.
        samples: uint8 (S, H, W, 3); None where there are none.
    """

    target: np.ndarray
    found: np.ndarray
    psnr: str
    error: np.ndarray
    std: np.ndarray | None
    covered: str
    samples: np.ndarray | None


@dataclass(frozen=True)
class Group:
    """A method on a task: a few of its images, errors and standard deviations on one scale.

    Attributes:
        title: task and method.
        rows: one per image.
    """

    title: str
    rows: tuple[Certainty, ...]

    @property
    def most(self) -> float:
        """The end of the scale, on values in [0, 1]: 99 % of what is shown lies below."""
        shown = [values.ravel() for row in self.rows for values in (row.error, row.std) if values is not None]
        return max(float(np.quantile(np.concatenate(shown), 0.99)), 1e-3)


def certainties(results: Results) -> list[Group]:
    """Every method that says how sure it is, on each of its tasks, with the setting that validation images chose."""
    groups = []
    for task in results.experiment.tasks:
        for line in results.lines_on(task):
            rows = _rows(results, task, line)
            if rows:
                groups.append(Group(f"{task} by {line.label}", rows))
    return groups


def uncertainty_figure(groups: list[Group]) -> Figure:
    """Targets, what was found, its error, the expected standard deviation, and draws."""
    if not groups:
        empty = new_figure(TEXT_WIDTH, 0.9)
        message(empty, "No method says how sure it is.")
        return empty
    columns = len(_HEADS)
    scale, margin = 0.12, 0.5  # width of the colour bar and of its numbers
    across = columns * (1 + _GAP) + scale + margin
    heights = [_TITLE + _TEXT + len(group.rows) * (1 + _TEXT) for group in groups]
    figure = new_figure(TEXT_WIDTH, TEXT_WIDTH * sum(heights) / across, arranged=False)
    axis = figure.add_axes((0, 0, 1, 1))
    top = 0.0
    for group, height in zip(groups, heights, strict=True):
        axis.text(0, top + 0.12, group.title, va="center", fontsize=8)
        for j, head in enumerate(_HEADS):
            axis.text(j * (1 + _GAP) + 0.5, top + _TITLE, head, ha="center", va="center", fontsize=6.5)
        first = top + _TITLE + _TEXT / 2 + 0.04
        for i, row in enumerate(group.rows):
            _draw(axis, row, group.most, first + i * (1 + _TEXT))
        place = (columns * (1 + _GAP) / across, 1 - (first + 1) / sum(heights), scale / across, 1 / sum(heights))
        bar = figure.colorbar(ScalarMappable(Normalize(0, group.most), _COLOURS), cax=figure.add_axes(place))
        bar.ax.tick_params(labelsize=5.5, length=2, pad=1)
        bar.outline.set_visible(False)
        top += height
    axis.set_xlim(0, across)
    axis.set_ylim(sum(heights), 0)
    axis.set_axis_off()
    return figure


def _draw(axis: Axes, row: Certainty, most: float, top: float) -> None:
    samples = () if row.samples is None else tuple(row.samples)
    tiles = [(row.target, ""), (row.found, row.psnr), (row.error, ""), (row.std, row.covered)]
    for j, (values, text) in enumerate([*tiles, *((sample, "") for sample in samples)]):
        left = j * (1 + _GAP)
        if values is None:
            axis.text(left + 0.5, top + 0.5, "\u2014", ha="center", va="center", color="#666666")
            continue
        extent = (left, left + 1, top + 1, top)
        axis.imshow(values, interpolation="nearest", extent=extent, cmap=_COLOURS, vmin=0, vmax=most)
        axis.text(left + 0.5, top + 1.02, text, ha="center", va="top", fontsize=6)


def _rows(results: Results, task: str, line: Line) -> tuple[Certainty, ...]:
    place = chosen_job(results, task, line)
    if place is None:
        return ()
    job, point = place
    experiment, layout = results.experiment, results.layout
    maps = Maps.load(layout.solved(job, "maps"), point)
    std, samples = maps.std.get(point), maps.samples.get(point)
    if std is None and samples is None:
        return ()
    pictures = np.load(layout.solved(job, "images"), mmap_mode="r", allow_pickle=False)[point]
    targets = np.load(layout.prepared("test"), mmap_mode="r", allow_pickle=False)
    setting = str((results.selected(task, line) or {})["setting"])
    numbers = results.rows_of(task, line, setting)
    rows = []
    for i in spread(len(pictures), COUNT):
        target, found = quantised(targets[i], experiment.bits), np.asarray(pictures[i])
        covered = numbers["coverage"].iloc[i] if "coverage" in numbers else np.nan
        rows.append(
            Certainty(
                target,
                found,
                f"{number(numbers['psnr'].iloc[i], 1)} dB",
                _over_channels((found.astype(float) - target.astype(float)) / 255),
                None if std is None else _over_channels(std[i].astype(float)),
                "" if np.isnan(covered) else f"covers {unit(covered)}",
                None if samples is None else samples[i],
            )
        )
    return tuple(rows)


def _over_channels(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(values).mean(axis=-1))
