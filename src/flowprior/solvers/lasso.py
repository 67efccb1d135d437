"""Sparse coefficients in a fixed basis: the Lasso in cosines and in wavelets (Asim et al. 2020, Sec. 4)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from flowprior.operators.dct_sensing import dct_matrix
from flowprior.solvers.proximal import ProximalSettings, ProximalSolver

if TYPE_CHECKING:
    from collections.abc import Callable


class LassoDCT(ProximalSolver):
    """min_x ||A x - y||^2 + alpha * |C x|_1, C the orthonormal 2-D cosine transform of each channel.

    Asim et al. 2020 take alpha .01. Their program fits an intercept besides, the mean of y, which a random matrix
    leaves near zero; here there is none.
    """

    name = "lasso_dct"

    def prox(self, images: Tensor, weight: float) -> Tensor:
        """Coefficients nearer to zero by the weight."""
        rows, columns = (dct_matrix(side).to(images) for side in images.shape[-2:])
        return rows.T @ shrunk(rows @ images @ columns.T, weight) @ columns

    def penalty(self, images: Tensor) -> Tensor:
        """|C x|_1."""
        rows, columns = (dct_matrix(side).to(images) for side in images.shape[-2:])
        return (rows @ images @ columns.T).abs().flatten(1).sum(1)


class LassoWavelet(ProximalSolver):
    """min_x ||A x - y||^2 + alpha * |W x|_1, W an orthogonal 2-D wavelet transform of each channel, to full depth.

    Asim et al. 2020 take db1 (Haar) and alpha .01; their program then divides each image by its largest magnitude,
    which costs them several dB and is not done here.
    """

    name = "lasso_wavelet"

    class Settings(ProximalSettings):
        """Settings of `lasso_wavelet`."""

        wavelet: str = Field("db1", description="an orthogonal wavelet of PyWavelets, such as db1 or sym4")

        @field_validator("wavelet")
        @classmethod
        def _orthogonal(cls, value: str) -> str:
            import pywt

            known = pywt.wavelist(kind="discrete")
            if value not in known or not pywt.Wavelet(value).orthogonal:
                raise ValueError(f"wavelet must be an orthogonal one of PyWavelets (db1, sym4, ...), got {value!r}")
            return value

    def prox(self, images: Tensor, weight: float) -> Tensor:
        """Coefficients nearer to zero by the weight."""
        return self._through(images, lambda found: shrunk(torch.from_numpy(found), weight).numpy())

    def penalty(self, images: Tensor) -> Tensor:
        """|W x|_1."""
        sizes: list[Tensor] = []

        def kept(found: np.ndarray) -> np.ndarray:
            sizes.append(torch.from_numpy(found).abs().flatten(1).sum(1))
            return found

        self._through(images, kept)
        return torch.stack(sizes).sum(0).to(images)

    def _through(self, images: Tensor, change: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        """W^T of changed coefficients W x. At odd sides the last edge is not orthogonal."""
        import pywt

        height, width = images.shape[-2:]
        levels = max(1, int(math.log2(min(height, width))))
        kind: dict[str, Any] = {"wavelet": self.settings.wavelet, "mode": "periodization", "axes": (-2, -1)}
        coarse, *details = pywt.wavedec2(images.detach().cpu().numpy(), level=_deepest(height, width, levels), **kind)
        changed = [change(coarse), *(tuple(change(part) for part in level) for level in details)]
        back = pywt.waverec2(changed, **kind)[..., :height, :width]
        return torch.from_numpy(np.ascontiguousarray(back)).to(images)


def shrunk(values: Tensor, weight: float) -> Tensor:
    """Soft thresholding: the proximal map of weight * |.|_1.

    Example:
        >>> shrunk(torch.tensor([-2.0, 0.5, 1.5]), 1.0)
        tensor([-1.0000,  0.0000,  0.5000])
    """
    return values.sign() * (values.abs() - weight).clamp(min=0)


def _deepest(height: int, width: int, most: int) -> int:
    """How often both sides can be halved, at least once."""
    level = 0
    while level < most and height % 2 == 0 and width % 2 == 0:
        height, width, level = height // 2, width // 2, level + 1
    return max(level, 1)
