"""Activation normalisation: a scale and a shift per channel, set from the first batch (Glow, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowprior.models.flows.layers.bijection import Bijection


class ActNorm(Bijection):
    """z = (x + shift) * exp(log_scale), per channel.

    Starts as the identity; `flowprior.models.flows.base.Flow.initialise` makes its output zero-mean and unit-variance
    on one batch.

    Args:
        channels: number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise."""
        return (x + self.shift) * self.log_scale.exp(), self._log_det(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the normalisation."""
        return z * (-self.log_scale).exp() - self.shift, -self._log_det(z)

    @torch.no_grad()
    def set_from(self, x: Tensor) -> None:
        """Choose scale and shift so that `x` comes out with mean 0 and variance 1 in each channel."""
        std = x.std(dim=(0, 2, 3), keepdim=True, unbiased=False)
        self.shift.copy_(-x.mean(dim=(0, 2, 3), keepdim=True))
        # A channel that is constant on the batch must not get an infinite scale.
        self.log_scale.copy_(-std.clamp_min(1e-3).log())

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.log_scale.sum() * (x.shape[2] * x.shape[3])).expand(x.shape[0])
