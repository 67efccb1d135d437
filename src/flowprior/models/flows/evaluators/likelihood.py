"""The gradient of a flow's likelihood by its weights, run by the compiled kernel: what training asks."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from flowprior.models.flows.base import Flow, standard_normal_log_prob
from flowprior.models.flows.evaluators.by_kernel import checked_rows
from flowprior.models.flows.evaluators.learning_program import LearningProgram


@dataclass(frozen=True)
class Share:
    """What one part of a batch adds.

    Attributes:
        neg_log_prob: -log p in nats, summed over its images; float64.
        by_constants: the gradient of that by all folded constants, one after the other (P,).
        images: how many images it had.
    """

    neg_log_prob: Tensor
    by_constants: Tensor
    images: int


class KernelLikelihood:
    """-log p of images and its gradient by a flow's weights, for one step of training after another.

    Gradients by the folded constants come from the kernel, one pass over forward and backward while an image's
    activations are in the caches; autograd carries them through the folding to the weights.

    Args:
        flow: the flow, float32 on the CPU.

    Raises:
        NotFoldableError: as `KernelFlow`.

    Example:
        >>> likelihood = KernelLikelihood(flow)  # doctest: +SKIP
        >>> likelihood.refresh()  # after every change of the weights  # doctest: +SKIP
        >>> gradients = likelihood.gradients([likelihood.share(images)])  # doctest: +SKIP
    """

    def __init__(self, flow: Flow) -> None:
        self._learning, self._dimensions = LearningProgram(flow), flow.dimensions

    def refresh(self) -> None:
        """Take the flow's weights as they are now."""
        self._learning.refresh()

    def share(self, images: Tensor) -> Share:
        """Of images (N, C, H, W) in [0, 1], on the calling thread; several threads may ask at once."""
        if images.requires_grad:
            raise ValueError("gradients by images are the flow's own: ask flow.log_prob, or give images.detach()")
        latents, log_det, gradients = self._learning.learn(checked_rows(images.flatten(1), self._dimensions))
        log_prob = standard_normal_log_prob(latents) + log_det
        return Share(-log_prob.double().sum(), gradients, len(images))

    def gradients(self, shares: list[Share], scale: float = 1.0) -> tuple[Tensor, ...]:
        """Gradients of `scale` times the summed -log p by the flow's parameters, in their order.

        Args:
            shares: of all parts of the batch, since the last `refresh`.
            scale: such as one over the number of images.
        """
        log_det = self._learning.program.log_det
        flat = functools.reduce(torch.add, (share.by_constants for share in shares)) * scale
        # What no image changes enters each of them once, with a minus.
        by_log_det = log_det.new_full((), -scale * sum(share.images for share in shares))
        return self._learning.by_parameters(self._learning.by_constant(flat), by_log_det)
