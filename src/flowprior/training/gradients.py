"""The loss of a batch and its gradient by a flow's weights: by the compiled kernel, or by torch's layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from flowprior.models.flows.base import Flow
from flowprior.models.flows.fixed import FixedFlow, FixedLikelihood, NotFoldableError, Share, folded
from flowprior.models.flows.fixed.program import pixels_per_weight
from flowprior.training.settings import TrainingSettings

#: `map` over the cores that share a batch.
Each = Callable[[Callable[[Tensor], Any], Sequence[Tensor]], list[Any]]


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


#: The kernel adds up a weight's gradient over pixels: with fewer than these per image torch is faster (measured: 4.5
#: for `chavez`, .7 of torch's speed; 35 and more for `glow` and `haar_glow`, twice).
_LEAST_PIXELS = 16


def likelihood_of(flow: Flow, settings: TrainingSettings) -> Likelihood:
    """By the kernel where it can run the flow in the wanted precision and is faster, else by torch."""
    try:
        if settings.precision == "float32" and pixels_per_weight(folded(flow)) >= _LEAST_PIXELS:
            return ByKernel(flow)
    except NotFoldableError:
        pass
    return ByTorch(flow, settings)


class ByKernel:
    """Forward, backward and weight gradients of each image in one pass (`flowprior.models.flows.fixed`)."""

    layout = torch.contiguous_format

    def __init__(self, flow: Flow) -> None:
        self._fixed = FixedLikelihood(flow)

    def gradients(self, parts: Sequence[Tensor], scale: float, each: Each) -> tuple[Tensor, list[Tensor]]:
        """See `Likelihood`."""
        self._fixed.refresh()
        shares: list[Share] = each(self._fixed.share, parts)
        loss = scale * torch.stack([share.neg_log_prob for share in shares]).sum()
        return loss, list(self._fixed.gradients(shares, scale))

    def log_prob(self, flow: Flow) -> Callable[[Tensor], Tensor]:
        """See `Likelihood`; every call runs on the core that makes it."""
        return FixedFlow(flow).with_threads(1).log_prob


class ByTorch:
    """The flow's own layers and autograd: on a GPU, in bf16, and where there is no kernel."""

    layout = torch.channels_last

    def __init__(self, flow: Flow, settings: TrainingSettings) -> None:
        self._flow, self._settings = flow, settings
        self._log_prob = torch.compile(flow.log_prob, dynamic=False) if settings.compile else flow.log_prob

    def gradients(self, parts: Sequence[Tensor], scale: float, each: Each) -> tuple[Tensor, list[Tensor]]:
        """See `Likelihood`."""
        parameters = list(self._flow.parameters())

        def share(images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self._settings.precision == "bf16"):
                loss = -scale * self._log_prob(images).sum()
            return loss.detach(), torch.autograd.grad(loss, parameters)

        losses, shares = zip(*each(share, parts), strict=True)
        return torch.stack(losses).sum(), [torch.stack(same).sum(0) for same in zip(*shares, strict=True)]

    def log_prob(self, flow: Flow) -> Callable[[Tensor], Tensor]:
        """See `Likelihood`."""
        device = next(flow.parameters()).device
        return lambda images: flow.log_prob(images.to(device))
