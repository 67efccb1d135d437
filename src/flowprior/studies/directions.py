"""How far an image moves when its latent does, towards another natural image and in random directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import Invertible
from flowprior.randomness import keyed_rows
from flowprior.registry import SettingsModel
from flowprior.studies.base import Study, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"natural": "#D55E00", "random": "#0072B2"}


class StepsInLatents(Study):
    """||x' - x|| against ||z' - z||, along natural and random directions, Sec. 5 of Asim et al. 2020.

    A natural direction leads from an image's latent towards that of the next image; a random one is a standard normal
    vector scaled to the same length. If natural ones move the image more, nearby images lie in few directions.
    """

    name = "steps_in_latents"
    caption = "Change of the image against change of the latent, towards another image and in random directions."
    needs = Invertible

    class Settings(SettingsModel):
        """Settings of `steps_in_latents`."""

        images: int = Field(16, ge=2, description="natural images, the first of the test images")
        lengths: list[float] = Field(
            [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0], min_length=1, description="lengths of a step, ||z' - z||"
        )

    @torch.no_grad()
    def table(self, subject: Subject) -> pd.DataFrame:
        """Columns: direction ("natural" or "random"), image, dz, dx, both Euclidean, images in [0, 1]."""
        assert subject.images is not None
        model, images, names = subject.model, subject.images[: self.settings.images], subject.names
        z = model.encode(images)
        x = model.decode(z)
        random = keyed_rows(torch.randn, tuple(z.shape[1:]), [(subject.seed, name, "step") for name in names[: len(z)]])
        rows = []
        for direction, towards in (("natural", z.roll(-1, 0) - z), ("random", random.to(z))):
            unit = towards / _norm(towards).reshape(-1, *[1] * (z.ndim - 1))
            for length in self.settings.lengths:
                moved = _norm(model.decode(z + length * unit) - x)
                rows += [(direction, name, length, dx) for name, dx in zip(names, moved.tolist(), strict=False)]
        return pd.DataFrame(rows, columns=["direction", "image", "dz", "dx"])

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """Every pair as a point, the median of each direction as a line."""
        axis = figure.subplots()
        for direction, own in table.groupby("direction", sort=False):
            colour = _COLOURS[str(direction)]
            axis.plot(own["dz"], own["dx"], ".", color=colour, alpha=0.35, markersize=3)
            middle = own.groupby("dz")["dx"].median()
            axis.plot(middle.index, middle, color=colour, label=f"{direction} direction, median")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("||z' - z||")
        axis.set_ylabel("||x' - x||")
        axis.legend()


def _norm(values: Tensor) -> Tensor:
    return values.flatten(1).norm(dim=1)
