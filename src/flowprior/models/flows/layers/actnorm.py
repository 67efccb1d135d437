"""Activation normalisation: a scale and a shift per channel, set from the first batch (Glow, section 3.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flowprior.models.flows.layers.bijection import Bijection

#: Neither a spread nor a scale is taken to be smaller.
_LEAST = 1e-3


class ActNorm(Bijection):
    """z = (x + shift) * (exp(log_scale) + epsilon), per channel.

    Starts as the identity; `flowprior.models.flows.base.Flow.initialise` makes its output zero-mean and unit-variance
    on one batch.

    Args:
        channels: number of channels.
        epsilon: what no scale falls below: a channel that is far from the data is multiplied by 1 / epsilon at most on
            its way back.
    """

    def __init__(self, channels: int, epsilon: float = 0.0) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))

    @property
    def log_scales(self) -> Tensor:
        """Logarithms of the scales that are used: of the parameter's, and epsilon."""
        return (self.log_scale.exp() + self.epsilon).log() if self.epsilon else self.log_scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise."""
        return (x + self.shift) * self.log_scales.exp(), self._log_det(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the normalisation."""
        return z * (-self.log_scales).exp() - self.shift, -self._log_det(z)

    @torch.no_grad()
    def set_from(self, x: Tensor) -> None:
        """Choose scale and shift so that `x` comes out with mean 0 and variance 1 in each channel."""
        self.shift.copy_(-x.mean(dim=(0, 2, 3), keepdim=True))
        if x[:, 0].numel() == 1:
            # One image on one pixel: nothing is known of the spread.
            self.log_scale.fill_(math.log(max(1.0 - self.epsilon, _LEAST)))
            return
        std = x.std(dim=(0, 2, 3), keepdim=True, unbiased=False)
        # A channel that is constant on the batch must not get an infinite scale.
        log_scale = -std.clamp_min(_LEAST).log()
        self.log_scale.copy_((log_scale.exp() - self.epsilon).clamp_min(_LEAST).log() if self.epsilon else log_scale)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.log_scales.sum() * (x.shape[2] * x.shape[3])).expand(x.shape[0])
