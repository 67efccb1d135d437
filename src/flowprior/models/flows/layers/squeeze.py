"""Space to depth: 2x2 pixels become four channels."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from flowprior.models.flows.layers.bijection import Bijection


class Squeeze(Bijection):
    """(N, C, H, W) -> (N, 4C, H/2, W/2) by reordering; volume is kept."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gather 2x2 pixels into channels."""
        return pixel_unshuffle(x, 2), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Spread channels over 2x2 pixels."""
        return pixel_shuffle(z, 2), z.new_zeros(z.shape[0])
