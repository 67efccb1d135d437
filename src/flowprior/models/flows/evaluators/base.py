"""What flows with fixed weights have in common, whoever computes their two directions."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from flowprior.models.flows.base import Flow, standard_normal_log_prob
from flowprior.randomness import normal_rows


class FlowEvaluator(ABC):
    """Density and samples, from `forward` and `inverse` alone; to a solver it is the flow itself.

    Args:
        flow: whose name and shape it has; dtype and device of its samples are those of its weights.
    """

    name: str
    shape: tuple[int, int, int]
    dimensions: int
    reference: Tensor

    def __init__(self, flow: Flow | FlowEvaluator) -> None:
        self.name, self.shape, self.dimensions = flow.name, flow.shape, flow.dimensions
        weight = next(flow.parameters()) if isinstance(flow, Flow) else flow.reference
        self.reference = weight.detach().new_empty(0)

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.forward`."""

    @abstractmethod
    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.inverse`."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.forward`."""
        return self.forward(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """As `Flow.log_prob`."""
        z, log_det = self.forward(x)
        return standard_normal_log_prob(z) + log_det

    @torch.no_grad()
    def sample(self, count: int, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """As `Flow.sample`, of the same random numbers."""
        z = normal_rows(count, self.dimensions, temperature, generator)
        return self.inverse(z.to(self.reference))[0]
