"""The orthonormal Haar wavelet as a squeeze: averages first, details after."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle

from flowprior.models.flows.layers.bijection import Bijection


class HaarSqueeze(Bijection):
    """(N, C, H, W) -> (N, 4C, H/2, W/2): C low-pass channels, then horizontal, vertical and diagonal details.

    Orthonormal, so the log-determinant is zero and the inverse is the transpose.

    Example:
        >>> z, _ = HaarSqueeze().forward(torch.ones(1, 1, 2, 2))
        >>> z.flatten().tolist()
        [2.0, 0.0, 0.0, 0.0]
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Analyse."""
        top, bottom = x[:, :, 0::2], x[:, :, 1::2]
        low, high = top + bottom, top - bottom
        z = torch.cat(
            [
                low[..., 0::2] + low[..., 1::2],
                low[..., 0::2] - low[..., 1::2],
                high[..., 0::2] + high[..., 1::2],
                high[..., 0::2] - high[..., 1::2],
            ],
            dim=1,
        )
        return z * 0.5, x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Synthesise."""
        low, horizontal, vertical, diagonal = (z * 0.5).chunk(4, dim=1)
        sum_low, difference_low = low + vertical, low - vertical
        sum_high, difference_high = horizontal + diagonal, horizontal - diagonal
        quadrants = torch.stack(
            [
                sum_low + sum_high,
                sum_low - sum_high,
                difference_low + difference_high,
                difference_low - difference_high,
            ],
            dim=2,
        )
        return pixel_shuffle(quadrants.flatten(1, 2), 2), z.new_zeros(z.shape[0])
