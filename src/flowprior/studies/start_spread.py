"""How much a method's answer depends on where it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import Field

from flowprior.evaluation.metrics import psnr
from flowprior.models.capabilities import Invertible
from flowprior.registry import SettingsModel
from flowprior.studies.base import Study, Subject
from flowprior.studies.problems import Methods, problem_of, solutions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class StartSpread(Study):
    """Several random starts of each image: what they differ by in PSNR and in the image.

    All methods begin at the same latents z ~ N(0, init_std^2) of each image and start, searches over images at G(z).
    Oberlin & Verm 2021 (Sec. 3 and 5) expect the search over images to depend less on it.
    """

    name = "start_spread"
    caption = "Several random starts of each image: PSNR around its mean, and distance of solutions from their mean."
    needs = Invertible
    reads_tasks = True

    class Settings(SettingsModel):
        """Settings of `start_spread`."""

        task: str = Field(description="task of the experiment whose operator and noise it takes")
        methods: Methods = Field(
            {"synthesis": {}, "analysis": {}, "map": {"start": "zero_latent"}},
            min_length=1,
            description="name -> settings of the solver of that name, or of that under `solver`; each has init_std",
        )
        images: int = Field(8, ge=1, description="the first of the test images")
        starts: int = Field(5, ge=2, description="random starts of each image")
        init_std: float = Field(0.7, ge=0, description="standard deviation of the first latent")

    def table(self, subject: Subject) -> pd.DataFrame:
        """Columns: method, image, start, psnr in dB, distance (RMS, of its solution from the mean of the starts')."""
        asked = self.settings
        problem = problem_of(subject, asked.task, asked.images)
        starts = problem.repeated([f"{name}, start {start}" for name in problem.names for start in range(asked.starts)])
        parts = []
        for method, found in solutions(subject, starts, asked.methods, init_std=asked.init_std):
            several = found.images.unflatten(0, (-1, asked.starts))
            away = (several - several.mean(1, keepdim=True)).square().mean(dim=(2, 3, 4)).sqrt()
            columns = {
                "method": method,
                "image": np.repeat(problem.names, asked.starts),
                "start": list(range(asked.starts)) * len(problem.names),
                "psnr": psnr(found.images, starts.truth, 1.0).cpu().numpy(),
                "distance": away.flatten().double().cpu().numpy(),
            }
            parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """Left: each start's PSNR around the mean of its image. Right: each solution's distance in grey levels."""
        left, right = figure.subplots(1, 2)
        methods = list(dict.fromkeys(table["method"]))
        around = table["psnr"] - table.groupby(["method", "image"])["psnr"].transform("mean")
        levels = 255 * table["distance"]
        for place, method in enumerate(methods):
            own = table["method"] == method
            across = place + np.linspace(-0.25, 0.25, int(own.sum()))
            for axis, values in ((left, around), (right, levels)):
                axis.plot(across, values[own], ".", markersize=3)
            spread = table[own].groupby("image")["psnr"].std().mean()
            left.annotate(
                f"{spread:.2f} dB", (place, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom"
            )
            middle = levels[own].mean()
            right.plot([place - 0.3, place + 0.3], [middle] * 2, color="#000000")
        for axis in (left, right):
            axis.set_xticks(range(len(methods)), methods)
            axis.grid(axis="x", visible=False)
        left.set_ylabel("PSNR less its image's mean (dB)")
        right.set_ylabel("distance from the mean solution (of 255)")
