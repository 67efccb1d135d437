"""How likely a density takes images of its own kind, other photographs, and noise to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate

from flowprior.models.capabilities import Density
from flowprior.models.flows.base import bits_per_dim
from flowprior.randomness import generator, keyed_rows
from flowprior.registry import SettingsModel
from flowprior.studies.base import Study, Subject
from flowprior.studies.problems import between_levels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colour photographs of the scikit-image wheel.
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
_COLOURS = {"test images": "#009E73", "other photographs": "#D55E00", "uniform noise": "#555555", "grey": "#0072B2"}


class Likelihoods(Study):
    """Bits per dimension of test images, of patches of scikit-image's photographs, of noise and of flat grey images.

    Asim et al. 2020 (Sec. 5) find images outside the training set likely too, and noise unlikely: that is why an
    invertible prior works out of its distribution.
    """

    name = "likelihoods"
    caption = "Bits per dimension under the model, 8-bit images: test images, other photographs, noise, flat grey."
    needs = Density

    class Settings(SettingsModel):
        """Settings of `likelihoods`."""

        images: int = Field(64, ge=1, description="images of each kind")

    @torch.no_grad()
    def table(self, subject: Subject) -> pd.DataFrame:
        """Columns: kind, number, bits_per_dim; infinite where the density is zero to floating point."""
        assert subject.images is not None
        test = subject.images[: self.settings.images]
        count, shape = len(test), (test.shape[1], test.shape[2], test.shape[3])
        noise = keyed_rows(torch.rand, shape, [(subject.seed, "likelihoods", "noise", i) for i in range(count)])
        levels = torch.linspace(0.1, 0.9, count).reshape(-1, 1, 1, 1).expand(count, *shape)
        kinds = {
            "test images": test,
            "other photographs": photographs(count, shape, subject.seed),
            "uniform noise": noise,
            "grey": levels,
        }
        rows = []
        for kind, images in kinds.items():
            x = between_levels(images.to(test), [(subject.seed, "likelihoods", kind, i) for i in range(count)])
            values = bits_per_dim(subject.model.log_prob(x), test[0].numel())
            rows += [(kind, i, value) for i, value in enumerate(values.tolist())]
        return pd.DataFrame(rows, columns=["kind", "number", "bits_per_dim"])

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """A strip of points and the median of each kind."""
        axis = figure.subplots()
        kinds = list(dict.fromkeys(table["kind"]))
        for place, kind in enumerate(kinds):
            own = table.loc[table["kind"] == kind, "bits_per_dim"].to_numpy()
            across = place + np.linspace(-0.3, 0.3, len(own))
            axis.plot(across, own, ".", color=_COLOURS[str(kind)], markersize=3)
            axis.plot([place - 0.35, place + 0.35], [np.median(own)] * 2, color="#000000")
        axis.set_xticks(range(len(kinds)), kinds)
        axis.set_ylabel("bits per dimension")
        axis.grid(axis="x", visible=False)


def photographs(count: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Patches (count, C, H, W) of scikit-image's photographs, of random places and sizes, reduced to the shape."""
    from skimage import data

    channels, height, width = shape
    source = generator(seed, "likelihoods", "photographs")
    patches = []
    for number in range(count):
        pixels = getattr(data, PHOTOGRAPHS[number % len(PHOTOGRAPHS)])()
        whole = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
        side = int(torch.randint(min(whole.shape[2:]) // 3, min(whole.shape[2:]) + 1, (1,), generator=source))
        top = int(torch.randint(0, whole.shape[2] - side + 1, (1,), generator=source))
        left = int(torch.randint(0, whole.shape[3] - side + 1, (1,), generator=source))
        patch = whole[:, :channels, top : top + side, left : left + side]
        patches.append(interpolate(patch, (height, width), mode="bilinear", antialias=True, align_corners=False))
    return torch.cat(patches).clamp(0, 1)
