"""Passes of a flow by the compiled kernel with gradients by its weights as well, which keep nothing but their ends.

What is trained through a flow that is not trained by its likelihood asks these: an unfolded algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowprior.models.flows.base import Flow
from flowprior.models.flows.evaluators.base import FlowEvaluator
from flowprior.models.flows.evaluators.by_kernel import KernelFlow, checked_rows
from flowprior.models.flows.evaluators.learning_program import LearningProgram
from flowprior.models.flows.once import once


class WeightedFlow(FlowEvaluator):
    """Both directions of a flow, differentiable by what they are given and by `leaves`, which stand for its weights.

    A pass keeps its input, and its output where that is an image; its gradient is computed from these. Several threads
    may ask at once, each on its own core.

    Args:
        flow: float32 on the CPU.

    Attributes:
        who: for messages.
        leaves: the folded constants, and last the log-determinant that no image changes; `refresh` makes them.

    Raises:
        NotFoldableError: as `KernelFlow`.
    """

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow)
        self._asked = KernelFlow(flow).with_threads(1)
        self.library = self._asked.library
        self._learning = LearningProgram(flow)
        self.leaves: list[Tensor] = []
        self.who = f"flow '{flow.name}' trained by the compiled kernel"

    def refresh(self) -> None:
        """Take the flow's weights as they are now."""
        program = self._learning.refresh()
        self._asked.take(program)
        ends = (*self._learning.constants, program.log_det)
        self.leaves = [tensor.detach().clone().requires_grad_(True) for tensor in ends]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.forward`."""
        z, log_det = _Forward.apply(self, x.flatten(1), *self.leaves[:-1])
        return z, log_det + self._constant()

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.inverse`."""
        x, log_det = _Inverse.apply(self, z, *self.leaves[:-1])
        return x.reshape(-1, *self.shape), log_det - self._constant()

    def gradients(self, by_leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Gradients by the flow's parameters in their order, from those by `leaves` since the last `refresh`."""
        *parts, by_log_det = by_leaves
        return self._learning.by_parameters(parts, by_log_det)

    def _constant(self) -> Tensor:
        """Nothing, with the gradient of the log-determinant that no image changes: the kernel has added its value."""
        last = self.leaves[-1]
        return (last - last.detach()).to(torch.float32)

    def passed(self, number: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """One pass without a gradient."""
        workspace = self._asked.workspace(len(rows))
        result = self._asked.run(number, rows, None, workspace)
        self._asked.leave(workspace)
        return result

    def by_latents(self, z: Tensor, by_images: Tensor, by_log_det: Tensor) -> Tensor:
        """The gradient of an inverse pass by its latents: the pass once more, and back."""
        workspace, inverse = self._asked.workspace(len(z)), int(self.library.INVERSE)
        self._asked.run(inverse, z, None, workspace)
        found = self._asked.run(inverse + 1, by_images, by_log_det, workspace)[0]
        self._asked.leave(workspace)
        return found

    def by_weights(
        self, rows: Tensor, by_latents: Tensor, by_log_det: Tensor, by_images: Tensor | None
    ) -> list[Tensor]:
        """The gradients of a forward pass of images by all constants; `by_images`, if given, gets that by images."""
        return self._learning.by_constant(self._learning.learn(rows, by_latents, by_log_det, by_images)[2])


class _Forward(torch.autograd.Function):
    """Images to latents; there is no second gradient."""

    @staticmethod
    def forward(ctx: Any, flow: WeightedFlow, rows: Tensor, *constants: Tensor) -> tuple[Tensor, Tensor]:
        rows = checked_rows(rows, flow.dimensions)
        ctx.flow = flow
        ctx.save_for_backward(rows)
        return flow.passed(int(flow.library.FORWARD), rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        by_latents, by_log_det = (gradient.contiguous() for gradient in gradients)
        (rows,) = ctx.saved_tensors
        by_rows = torch.empty_like(rows)
        found = ctx.flow.by_weights(rows, by_latents, by_log_det, by_rows)
        return None, *(once(gradient, ctx.flow.who, rows, *gradients) for gradient in (by_rows, *found))


class _Inverse(torch.autograd.Function):
    """Latents to images x = G(z); its gradient by weights is that of F at x, for F(G(z)) = z whatever the weights."""

    @staticmethod
    def forward(ctx: Any, flow: WeightedFlow, z: Tensor, *constants: Tensor) -> tuple[Tensor, Tensor]:
        z = checked_rows(z, flow.dimensions)
        rows, log_det = flow.passed(int(flow.library.INVERSE), z)
        ctx.flow = flow
        ctx.save_for_backward(z, rows)
        return rows, log_det

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        by_images, by_log_det = (gradient.contiguous() for gradient in gradients)
        z, rows = ctx.saved_tensors
        by_latents = ctx.flow.by_latents(z, by_images, by_log_det)
        found = ctx.flow.by_weights(rows, -by_latents, -by_log_det, None)
        return None, *(once(gradient, ctx.flow.who, z, *gradients) for gradient in (by_latents, *found))
