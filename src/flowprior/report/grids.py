"""Reconstruction grids: target, measurement and every method on the same few test images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from flowprior.evaluation.registry import CHOSEN_BY
from flowprior.experiment.plan import Job
from flowprior.report.formats import number
from flowprior.report.lines import Line
from flowprior.report.measured import measured_pictures
from flowprior.report.results import Results
from flowprior.report.style import TEXT_WIDTH, new_figure

#: Images per grid.
COUNT = 8


@dataclass(frozen=True)
class Tile:
    """One picture of a grid.

    Attributes:
        pixels: uint8, shape (H, W, 3).
        psnr: in dB, formatted; empty for target and measurement.
    """

    pixels: np.ndarray
    psnr: str = ""


@dataclass(frozen=True)
class Grid:
    """Pictures of one task.

    Attributes:
        task: which.
        columns: target, measurement (or what stands for it) and the methods' labels.
        images: names of the test images, one per row.
        rows: tiles, None where a method did not solve an image.
    """

    task: str
    columns: tuple[str, ...]
    images: tuple[str, ...]
    rows: tuple[tuple[Tile | None, ...], ...]


def spread(n: int, count: int = COUNT) -> list[int]:
    """Indices spread evenly over n images, first and last included: nobody picks the prettiest.

    Example:
        >>> spread(15, 8)
        [0, 2, 4, 6, 8, 10, 12, 14]
    """
    return sorted({round(value) for value in np.linspace(0, n - 1, min(n, count))}) if n else []


def make_grid(results: Results, task: str, count: int = COUNT) -> Grid:
    """Read the pictures of a task: targets, what was measured, and reconstructions with the selected settings."""
    experiment, layout = results.experiment, results.layout
    with np.load(layout.measurement(task), allow_pickle=False) as archive:
        measurements, names = archive["y"], [str(name) for name in archive["names"]]
    targets = np.load(layout.prepared("test"), mmap_mode="r", allow_pickle=False)
    lines = results.lines_on(task)
    limit = min([len(names), *(experiment.images_of(line.method, "test") for line in lines)])
    chosen = spread(limit, count)
    _, height, width, channels = targets.shape
    head, shown = measured_pictures(experiment.tasks[task], measurements[chosen], (channels, height, width))
    columns = [
        [Tile(quantised(targets[i], experiment.bits)) for i in chosen],
        [Tile(pixels) for pixels in shown],
        *(_method_column(results, task, line, names, chosen) for line in lines),
    ]
    return Grid(
        task,
        ("target", head, *(line.label for line in lines)),
        tuple(names[i] for i in chosen),
        tuple(zip(*columns, strict=True)),
    )


def figure(grid: Grid) -> Figure:
    """The grid as a figure: one picture per column and image, its PSNR below."""
    n_rows, n_columns = len(grid.rows), len(grid.columns)
    width = min(TEXT_WIDTH, 0.95 * n_columns)
    heads = [name.replace(" ", "\n") for name in grid.columns]
    cell = width / n_columns
    size = min(7.5, 72 * cell / (0.6 * max(len(word) for head in heads for word in head.split("\n"))))
    # In units of a picture's side: the gap between pictures, the line of text below each, the heads' height.
    gap, text, head = 0.04, 0.13 / cell, (0.18 if all("\n" not in head for head in heads) else 0.29) / cell
    across, down = n_columns * (1 + gap) - gap, n_rows * (1 + text) + head
    made = new_figure(width, width * down / across, arranged=False)
    axis = made.add_axes((0, 0, 1, 1))
    for j, name in enumerate(heads):
        axis.text(j * (1 + gap) + 0.5, head - 0.04, name, ha="center", va="bottom", fontsize=size, linespacing=1)
    for i, tiles in enumerate(grid.rows):
        for j, tile in enumerate(tiles):
            if tile is not None:
                left, top = j * (1 + gap), head + i * (1 + text)
                axis.imshow(tile.pixels, interpolation="nearest", extent=(left, left + 1, top + 1, top))
                axis.text(left + 0.5, top + 1.03, tile.psnr, ha="center", va="top", fontsize=min(6.5, 16 * cell))
    axis.set_xlim(0, across)
    axis.set_ylim(down, 0)
    axis.set_axis_off()
    return made


def quantised(pixels: np.ndarray, bits: int) -> np.ndarray:
    """What the methods were to recover: a picture of shape (H, W, 3) with 2^bits grey levels per channel."""
    from flowprior.images.quantise import to_float, to_pixels

    return to_pixels(to_float(np.array(pixels)[None], bits))[0]


def chosen_job(results: Results, task: str, line: Line) -> tuple[Job, int] | None:
    """The job that solved the test images with the setting that validation images chose, and the setting's number."""
    setting = str((results.selected(task, line) or {}).get("setting"))
    place = results.experiment.place_of(line.method, task, setting)
    return None if place is None else (Job(task, line.method, line.prior, "test", place[0]), place[1])


def _method_column(results: Results, task: str, line: Line, names: list[str], chosen: list[int]) -> list[Tile | None]:
    place = chosen_job(results, task, line)
    if place is None:
        return [None for _ in chosen]
    job, point = place
    setting = str((results.selected(task, line) or {})["setting"])
    psnr = results.rows_of(task, line, setting).set_index("image")[CHOSEN_BY]
    pictures = np.load(results.layout.solved(job, "images"), mmap_mode="r", allow_pickle=False)[point]
    return [Tile(np.asarray(pictures[i]), number(psnr[names[i]], 1)) if i < len(pictures) else None for i in chosen]
