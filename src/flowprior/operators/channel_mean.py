"""Colorization: only the mean of the channels is seen."""

from __future__ import annotations

from torch import Tensor

from flowprior.operators.base import Operator


class ChannelMean(Operator):
    """(N, C, H, W) -> (N, 1, H, W), the mean over channels (Chávez 2021, colorization)."""

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """One channel."""
        return (1, *self.shape[1:])

    def A(self, x: Tensor) -> Tensor:
        """Average the channels."""
        return x.mean(dim=1, keepdim=True)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Spread a C-th of the value over each channel."""
        channels = self.shape[0]
        return y.expand(-1, channels, -1, -1) / channels

    def A_dagger(self, y: Tensor) -> Tensor:
        """The grey image."""
        return y.expand(-1, self.shape[0], -1, -1)
