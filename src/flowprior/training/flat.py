"""All parameters of a module in one piece of memory, so that an optimiser's step is one operation and not hundreds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Flat:
    """A module's parameters as views of one vector; the module works on as before.

    Args:
        module: its parameters move into the vector, each in the order in which its values lie in memory.

    Attributes:
        values: the vector, a parameter itself: what an optimiser is given.
    """

    def __init__(self, module: nn.Module) -> None:
        parameters = list(module.parameters())
        self._layout = [(parameter.shape, parameter.stride()) for parameter in parameters]
        self.values = nn.Parameter(
            torch.empty_like(torch.cat([parameter.detach().flatten() for parameter in parameters]))
        )
        with torch.no_grad():
            for parameter, view in zip(parameters, self.views(self.values.detach()), strict=True):
                view.copy_(parameter)
                parameter.data = view

    def views(self, vector: Tensor) -> list[Tensor]:
        """A vector like `values` as one tensor for each parameter, of its shape."""
        parts, start = [], 0
        for shape, stride in self._layout:
            parts.append(vector.as_strided(shape, stride, vector.storage_offset() + start))
            start += shape.numel()
        return parts

    @torch.no_grad()
    def set_gradient(self, gradients: Sequence[Tensor]) -> None:
        """Take one gradient for each parameter, whatever its layout, as the vector's."""
        if self.values.grad is None:
            self.values.grad = torch.empty_like(self.values)
        torch._foreach_copy_(self.views(self.values.grad), list(gradients))
