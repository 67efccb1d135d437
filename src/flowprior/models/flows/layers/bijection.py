"""What a bijection is, and a chain of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from flowprior.models.flows.layers.retracing import Gradients, Traced, differentiated


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

    def retrace(self, end: Traced, back: bool, gradients: Gradients) -> Traced:
        """From the end of a pass, and the gradient by it, to its start and the gradient by that; asked without grad.

        Args:
            end: of the pass.
            back: whether it was in the inverse direction.
            gradients: to which those by weights are added.
        """
        start = (self(end.values) if back else self.inverse(end.values))[0]
        with torch.enable_grad():
            leaf = start.detach().requires_grad_(True)
            outputs = self.inverse(leaf) if back else self(leaf)
        weights = gradients.wanted_of(self)
        by_start, by_weights = differentiated(outputs, (end.gradient, end.by_log_det), leaf, weights)
        gradients.add(weights, by_weights)
        return Traced(start, by_start, end.by_log_det)

    def _is_plainly(self, kind: type[Bijection]) -> bool:
        """Whether it does what its class does: none derived from it, no hooks, no way of its own."""
        own = {"forward", "inverse"} & vars(self).keys()
        return type(self) is kind and not own and not self._forward_hooks and not self._forward_pre_hooks


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

    def retrace(self, end: Traced, back: bool, gradients: Gradients) -> Traced:
        """Part by part, so that the memory is that of one."""
        if not self._is_plainly(Chain):
            return super().retrace(end, back, gradients)
        for part in self.parts if back else reversed(self.parts):
            end = part.retrace(end, back, gradients)  # type: ignore[operator]
        return end
