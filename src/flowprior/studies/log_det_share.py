"""What of a flow's -log p(x) differs between images: the latent's length, or the log-determinant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import Invertible
from flowprior.models.flows.base import standard_normal_log_prob
from flowprior.registry import SettingsModel
from flowprior.studies.base import Study, Subject
from flowprior.studies.problems import between_levels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PARTS = ("half_norm", "minus_log_det", "neg_log_prob")
#: A spread of less than this part of the mean is one of float32.
_ROUNDING = 1e-6
#: Names of the lines that say what all images say together.
MEAN, STD, CORRELATION = "(mean)", "(standard deviation)", "(correlation with half_norm)"


class LogDetShare(Study):
    """-log p(x) = ||z||^2 / 2 - log |det dz/dx| + D/2 log 2 pi, image by image, in nats.

    `analysis` (Oberlin & Verm 2021) leaves the log-determinant out: with an additive flow it is the same for every
    image and nothing is lost, with any other it is a part of the prior. This says how large a part.
    """

    name = "log_det_share"
    caption = "Half the squared latent norm against the log-determinant of each test image, in nats around their means."
    needs = Invertible

    class Settings(SettingsModel):
        """Settings of `log_det_share`."""

        images: int = Field(192, ge=2, description="the first of the test images")

    @torch.no_grad()
    def table(self, subject: Subject) -> pd.DataFrame:
        """Columns: image, half_norm, minus_log_det, neg_log_prob; below all images their mean, spread, correlation."""
        assert subject.images is not None
        images, names = subject.images[: self.settings.images], subject.names[: self.settings.images]
        x = between_levels(images, [(subject.seed, name, "log_det_share") for name in names])
        half, minus, whole = parts_of(subject.model, x)
        table = pd.DataFrame(
            {
                "image": names[: len(images)],
                **{name: part.double().cpu().numpy() for name, part in zip(_PARTS, (half, minus, whole), strict=True)},
            }
        )
        values = table[list(_PARTS)]
        said = pd.DataFrame([values.mean(), values.std()])
        said.loc[2] = [_correlation(values["half_norm"], values[name]) for name in _PARTS]
        said.insert(0, "image", [MEAN, STD, CORRELATION])
        return pd.concat([table, said], ignore_index=True)

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """A point per image, both axes at one scale."""
        figure.set_size_inches(4.2, 3.8)
        axis = figure.subplots()
        images = table[~table["image"].isin([MEAN, STD, CORRELATION])]

        def said(line: str, name: str) -> float:
            return float(table.loc[table["image"] == line, name].iloc[0])

        half, minus = (images[name].to_numpy() - said(MEAN, name) for name in _PARTS[:2])
        axis.plot(half, minus, ".", markersize=4, color="#0072B2")
        # One scale: how much each part varies can be seen.
        reach = 1.1 * max(abs(half).max(), abs(minus).max())
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), box_aspect=1)
        axis.set_xlabel(f"||z||²/2 less its mean (nats),\nstandard deviation {said(STD, 'half_norm'):.3g}")
        axis.set_ylabel(f"-log |det| less its mean,\nstandard deviation {said(STD, 'minus_log_det'):.3g}")
        axis.set_title(f"correlation {said(CORRELATION, 'minus_log_det'):.2f}")


def parts_of(model: Invertible, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """||z||^2 / 2, -log |det dz/dx| and -log p(x) of images (N, C, H, W), each (N,)."""
    z, log_det = model.forward(x)
    return z.square().flatten(1).sum(1) / 2, -log_det, -(standard_normal_log_prob(z) + log_det)


def _correlation(first: pd.Series, second: pd.Series) -> float:
    """Of two columns; NaN where one of them does not vary, but for rounding."""
    if any(one.std() <= _ROUNDING * max(1.0, abs(one.mean())) for one in (first, second)):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
