"""A flow's loss and its gradient by the flow's weights: by the compiled kernel, or by torch's layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from flowprior.models.flows.base import Flow, bits_per_dim
from flowprior.models.flows.evaluators import KernelFlow, KernelLikelihood, NotFoldableError, Share, folded
from flowprior.models.flows.evaluators.program import pixels_per_weight
from flowprior.training.grids import Grid, samples
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import Each, Examples, Player, Task, Trainable, shared_gradients


class Likelihood(Protocol):
    """What one step of training asks of a flow.

    Attributes:
        layout: how the flow's weights are to lie in memory before the first step.
    """

    layout: torch.memory_format

    def gradients(self, parts: Sequence[Tensor], scale: float, each: Each) -> tuple[Tensor, list[Tensor]]:
        """`scale` times the summed -log p of all images, and its gradients by the flow's parameters in their order.

        Args:
            parts: the images (n, C, H, W), one part for each core.
            scale: such as one over the number of images.
            each: maps over the cores.
        """

    def log_prob(self, flow: Flow) -> Callable[[Tensor], Tensor]:
        """How images are scored by a flow of the same kind, without gradient."""


class FlowTraining(Trainable):
    """Maximum likelihood, in bits per dimension."""

    score = "bits_per_dim"

    def __init__(self, flow: Flow, settings: TrainingSettings, bits: int, task: Task | None = None) -> None:
        super().__init__(flow, settings, bits, task)
        self._likelihood = likelihood_of(flow, settings)
        self.layout = self._likelihood.layout

    def players(self) -> tuple[Player, ...]:
        """The flow alone."""
        return (Player("flow", self.model, "bits_per_dim"),)

    def initialise(self, examples: Examples) -> None:
        """Set the flow's norms."""
        self.model.initialise(examples[0])

    def gradients(
        self, player: str, parts: Sequence[Examples], scale: float, each: Each
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Of -log p, in nats."""
        return self._likelihood.gradients([images for (images,) in parts], scale, each)

    def scorer(self, model: Flow, seed: tuple[object, ...]) -> Callable[[Examples], Tensor]:
        """Log p of images."""
        log_prob = self._likelihood.log_prob(model)
        return lambda examples: log_prob(examples[0])

    def loss_of(self, total: Tensor) -> Tensor:
        """In bits per dimension."""
        return bits_per_dim(-total, self.model.dimensions, self.bits)

    def score_of(self, mean: Tensor) -> Tensor:
        """In bits per dimension."""
        return bits_per_dim(mean, self.model.dimensions, self.bits)

    def grid(self, model: Flow, pixels: np.ndarray, seed: int) -> Grid:
        """Samples over temperatures."""
        return samples(model, seed)


#: The kernel adds up a weight's gradient over pixels: with fewer than these per image torch is faster (measured: 4.5
#: for `chavez`, .7 of torch's speed; 35 and more for `glow` and `haar_glow`, twice).
LEAST_PIXELS = 16


def likelihood_of(flow: Flow, settings: TrainingSettings) -> Likelihood:
    """By the kernel where it can run the flow in the wanted precision and is faster, else by torch.

    The kernel keeps the activations of some images at a time: `memory: reversible` is torch's.
    """
    try:
        if flow.reversible:
            return ByTorch(flow, settings)
        if settings.precision == "float32" and pixels_per_weight(folded(flow)) >= LEAST_PIXELS:
            return ByKernel(flow)
    except NotFoldableError:
        pass
    return ByTorch(flow, settings)


class ByKernel:
    """Forward, backward and weight gradients of each image in one pass (`flowprior.models.flows.evaluators`)."""

    layout = torch.contiguous_format

    def __init__(self, flow: Flow) -> None:
        self._fixed = KernelLikelihood(flow)

    def gradients(self, parts: Sequence[Tensor], scale: float, each: Each) -> tuple[Tensor, list[Tensor]]:
        """See `Likelihood`."""
        self._fixed.refresh()
        shares: list[Share] = each(self._fixed.share, parts)
        loss = scale * torch.stack([share.neg_log_prob for share in shares]).sum()
        return loss, list(self._fixed.gradients(shares, scale))

    def log_prob(self, flow: Flow) -> Callable[[Tensor], Tensor]:
        """See `Likelihood`; every call runs on the core that makes it."""
        return KernelFlow(flow).with_threads(1).log_prob


class ByTorch:
    """The flow's own layers and autograd: on a GPU, in bf16, and where there is no kernel."""

    layout = torch.channels_last

    def __init__(self, flow: Flow, settings: TrainingSettings) -> None:
        self._flow, self._settings = flow, settings
        self._log_prob = torch.compile(flow.log_prob, dynamic=False) if settings.compile else flow.log_prob

    def gradients(self, parts: Sequence[Tensor], scale: float, each: Each) -> tuple[Tensor, list[Tensor]]:
        """See `Likelihood`."""

        def loss(examples: Examples) -> Tensor:
            images = examples[0].contiguous(memory_format=torch.channels_last)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self._settings.precision == "bf16"):
                return -scale * self._log_prob(images).sum()

        return shared_gradients(loss, list(self._flow.parameters()), [(images,) for images in parts], each)

    def log_prob(self, flow: Flow) -> Callable[[Tensor], Tensor]:
        """See `Likelihood`."""
        device = next(flow.parameters()).device
        return lambda images: flow.log_prob(images.to(device))
