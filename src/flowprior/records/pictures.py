"""The picture of a record: what was to be found, what was measured (or what that says), what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowprior.experiment.layout import Layout
    from flowprior.experiment.plan import Job

#: Test images on the picture.
GRID_IMAGES = 8
#: Pixels that a small image has at least on it.
_LEAST_SIDE = 128


def grid(layout: Layout, job: Job, place: int, target: Path) -> None:
    """Write a picture: targets, measurements and reconstructions of a few test images, one row each.

    Args:
        layout: where the files lie.
        job: who solved it.
        place: of the setting within the job.
        target: PNG file to write.
    """
    import numpy as np
    from PIL import Image

    from flowprior.report.grids import quantised, spread
    from flowprior.report.measured import measured_pictures

    solved = np.load(layout.solved(job, "images"), mmap_mode="r", allow_pickle=False)[place]
    truth = np.load(layout.prepared("test"), mmap_mode="r", allow_pickle=False)
    with np.load(layout.measurement(job.task), allow_pickle=False) as archive:
        measured = archive["y"]
    height, width, channels = truth.shape[1:]
    strips, chosen = [], spread(len(solved), GRID_IMAGES)
    _, seen = measured_pictures(layout.experiment.tasks[job.task], measured[chosen], (channels, height, width))
    for i, pixels in zip(chosen, seen, strict=True):
        shown = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
        strips.append(np.concatenate([quantised(truth[i], layout.experiment.bits), np.asarray(shown), solved[i]]))
    sheet = Image.fromarray(np.concatenate(strips, axis=1))
    scale = max(1, _LEAST_SIDE // height)
    sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST).save(target)
