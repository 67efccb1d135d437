"""What a bijection is, and a chain of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn


class Bijection(nn.Module, ABC):
    """An invertible map of image batches that knows its log-determinant.

    `forward` and `inverse` each return the log |det| of their own direction, one value per image, in float32
    or better whatever precision the convolutions run in.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (N, C, H, W) to z, with log |det dz/dx| of shape (N,)."""

    @abstractmethod
    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map z back to x, with log |det dx/dz| of shape (N,)."""


class Chain(Bijection):
    """Bijections one after the other; log-determinants add up."""

    def __init__(self, parts: Iterable[Bijection]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the parts in order."""
        total = x.new_zeros(x.shape[0])
        for part in self.parts:
            x, log_det = part(x)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the parts in reverse order."""
        total = z.new_zeros(z.shape[0])
        for part in reversed(self.parts):
            z, log_det = part.inverse(z)  # type: ignore[operator]
            total = total + log_det
        return z, total
