"""Singular values of a decoder's Jacobian at natural images, without forming it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor
from torch.func import jvp, vjp

from flowprior.models.capabilities import Invertible
from flowprior.randomness import keyed_rows
from flowprior.registry import SettingsModel
from flowprior.studies.base import Study, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Columns of the sketch beyond the values that are asked for.
_EXTRA = 10


class JacobianSpectrum(Study):
    """The largest singular values of J_G at z = F(x), Sec. 5 of Asim et al. 2020.

    They decay fast: near a natural image few directions of the latents move the image much. The values come from
    a randomised subspace iteration (Halko et al. 2011, Alg. 4.4) with products J v and J^T u alone, by forward and
    reverse differentiation: no matrix of an image's values squared is formed, at any size.
    """

    name = "jacobian_spectrum"
    caption = "Singular values of the Jacobian of G at the latents of natural images, the largest first."
    needs = Invertible

    class Settings(SettingsModel):
        """Settings of `jacobian_spectrum`."""

        images: int = Field(4, ge=1, description="natural images, the first of the test images")
        values: int = Field(64, ge=1, description="singular values of each, the largest")
        iterations: int = Field(4, ge=1, description="of the subspace; each is a product with J and one with J^T")

    def table(self, subject: Subject) -> pd.DataFrame:
        """Columns: image, number (from 1), value."""
        assert subject.images is not None
        rows = []
        for image, name in zip(subject.images[: self.settings.images], subject.names, strict=False):
            with torch.no_grad():
                z = subject.model.encode(image[None])[0]
            count = min(self.settings.values, z.numel())
            start = keyed_rows(torch.randn, (z.numel(),), [(subject.seed, name, i) for i in range(_sketch(count, z))])
            found = singular_values(
                lambda latents: subject.model.decode(latents).flatten(1), z, start.to(z), self.settings.iterations
            )
            rows += [(name, i + 1, value) for i, value in enumerate(found[:count].tolist())]
        return pd.DataFrame(rows, columns=["image", "number", "value"])

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """One line per image, on a logarithmic scale."""
        axis = figure.subplots()
        for _, own in table.groupby("image", sort=False):
            axis.plot(own["number"], own["value"], color="#0072B2", alpha=0.7)
        axis.set_yscale("log")
        axis.set_xlabel("number of the singular value")
        axis.set_ylabel("singular value of J at F(x)")


def singular_values(function: Callable[[Tensor], Tensor], at: Tensor, start: Tensor, iterations: int) -> Tensor:
    """The largest singular values of a function's Jacobian, approximately, in falling order.

    Args:
        function: from a batch of vectors to a batch of vectors, each by itself.
        at: where (D,).
        start: random directions (S, D), S at most D; as many values come back.
        iterations: of the subspace.

    Example:
        >>> scale = torch.tensor([3.0, 2.0, 1.0])
        >>> singular_values(lambda z: scale * z, torch.zeros(3), torch.eye(3), 2).round(decimals=3).tolist()
        [3.0, 2.0, 1.0]
    """
    # One row for each direction: all products are one batch.
    places = at.expand(len(start), -1).contiguous()
    back = vjp(function, places)[1]

    def forwards(directions: Tensor) -> Tensor:
        return jvp(function, (places,), (directions.contiguous(),))[1]

    basis = torch.linalg.qr(start.T)[0].T
    with torch.no_grad():
        for _ in range(iterations):
            images = torch.linalg.qr(forwards(basis).T)[0].T
            basis = torch.linalg.qr(back(images.contiguous())[0].T)[0].T
        return torch.linalg.svdvals(forwards(basis).double())


def _sketch(count: int, z: Tensor) -> int:
    return min(count + _EXTRA, z.numel())
