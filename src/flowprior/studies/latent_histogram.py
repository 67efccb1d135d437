"""How the latents of what was recovered are distributed, beside the standard normal that the prior assumes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import Invertible
from flowprior.registry import SettingsModel
from flowprior.studies.base import Study, Subject
from flowprior.studies.problems import Methods, problem_of, solutions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What the latents of the images themselves are called.
TRUTH = "images"


class LatentHistogram(Study):
    """Histogram of all latent values: of test images, F(x), and of what methods make of their measurements.

    A search over latents is asked for the latents that it found, any other method for those of its solutions. Where
    A tells nothing, a penalty of ||z||^2 leaves latents shorter than any sample's; where it is too light, longer.
    """

    name = "latent_histogram"
    caption = "Distribution of latent values of test images and of solutions; grey: standard normal."
    needs = Invertible
    reads_tasks = True

    class Settings(SettingsModel):
        """Settings of `latent_histogram`."""

        task: str = Field(description="task of the experiment whose operator and noise it takes")
        methods: Methods = Field(
            {"synthesis": {}, "analysis": {}},
            description="name -> settings of the solver of that name, or of that under `solver`",
        )
        images: int = Field(8, ge=1, description="the first of the test images")
        bins: int = Field(80, ge=2, description="bins between -reach and reach")
        reach: float = Field(5.0, gt=0, description="values beyond are counted as outside")

    def table(self, subject: Subject) -> pd.DataFrame:
        """Columns: of, z (middle of a bin), density; of all of them outside (their share), rms (||z|| / sqrt(D))."""
        asked = self.settings
        problem, model = problem_of(subject, asked.task, asked.images), subject.model
        latents = {TRUTH: _latents(model, problem.truth)}
        for method, found in solutions(subject, problem, asked.methods):
            latents[method] = _latents(model, found.images) if found.latents is None else found.latents
        rows: list[tuple[str, float, float, float, float]] = []
        edges = torch.linspace(-asked.reach, asked.reach, asked.bins + 1, dtype=torch.float64)
        width = float(edges[1] - edges[0])
        for of, z in latents.items():
            values = z.flatten().double().cpu()
            counts = torch.histogram(values, edges).hist
            outside = 1 - float(counts.sum()) / len(values)
            rms = math.sqrt(float(values.square().mean()))
            density = (counts / (len(values) * width)).tolist()
            middles = ((edges[1:] + edges[:-1]) / 2).tolist()
            rows += [(of, *point, outside, rms) for point in zip(middles, density, strict=True)]
        return pd.DataFrame(rows, columns=["of", "z", "density", "outside", "rms"])

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """Densities on a logarithmic axis, so that tails can be seen."""
        axis = figure.subplots()
        middles = table["z"].unique()
        normal = [math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) for z in middles]
        axis.fill_between(middles, normal, color="#BBBBBB", alpha=0.6, linewidth=0, label="standard normal")
        for of, own in table.groupby("of", sort=False):
            label = f"{of}, ||z||/√D = {own['rms'].iloc[0]:.2f}"
            axis.plot(own["z"], own["density"].where(own["density"] > 0), linewidth=1.2, label=label)
        axis.set_yscale("log")
        axis.set_ylim(bottom=1e-5)
        axis.set_xlabel("latent value")
        axis.set_ylabel("density")
        axis.legend()


@torch.no_grad()
def _latents(model: Invertible, images: Tensor) -> Tensor:
    return model.encode(images)
