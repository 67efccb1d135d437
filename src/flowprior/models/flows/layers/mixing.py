"""Invertible 1x1 convolution: one learned matrix that mixes channels (Glow, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from flowprior.models.flows.layers.bijection import Bijection


class Mixing(Bijection):
    """z = W x at every pixel, with W (C, C) full, started as a random rotation.

    The matrix stays in float32 under autocast: rounding it would cost invertibility and buy nothing.

    Args:
        channels: number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels)).Q.contiguous())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mix."""
        return _at_every_pixel(self.weight, x), self._log_det(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Unmix, by the inverse of the matrix."""
        return _at_every_pixel(torch.linalg.inv(self.weight), z), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (torch.linalg.slogdet(self.weight)[1] * (x.shape[2] * x.shape[3])).expand(x.shape[0])


def _at_every_pixel(matrix: Tensor, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return conv2d(x, matrix[:, :, None, None])
