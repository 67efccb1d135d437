"""A flow's folded constants, and the gradients by them that the compiled kernel computes: what learns asks this."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowprior.models.flows.base import Flow
from flowprior.models.flows.evaluators.by_kernel import groups_at_once, kernel_for
from flowprior.models.flows.evaluators.interface import address
from flowprior.models.flows.evaluators.kernel_program import KernelProgram
from flowprior.models.flows.evaluators.program import Program, folded
from flowprior.models.flows.evaluators.workspaces import Workspaces

#: Workspaces kept: more threads than these that ask at once find none left for them.
_MOST_THREADS = 64


class LearningProgram:
    """A flow as the kernel learns it; several threads may ask at once, each on its own core.

    Args:
        flow: the flow, float32 on the CPU.

    Attributes:
        constants: all weights and biases as the kernel has them, since the last `refresh`.

    Raises:
        NotFoldableError: as `KernelFlow`.
    """

    def __init__(self, flow: Flow) -> None:
        self._library = kernel_for(flow)
        self._flow, self._parameters = flow, list(flow.parameters())
        with torch.no_grad():
            self._written = KernelProgram(self._library, folded(flow), flow, inverses=False)
        self._most_groups = groups_at_once(flow)
        self._workspaces = Workspaces(_MOST_THREADS)
        self._program: Program | None = None
        self.constants: list[Tensor] = []

    @property
    def program(self) -> Program:
        """The flow as it was at the last `refresh`."""
        if self._program is None:
            raise RuntimeError("no weights were taken yet; call refresh() after each change of them")
        return self._program

    def refresh(self) -> Program:
        """Take the flow's weights as they are now."""
        self._program = folded(self._flow)
        self.constants = self._written.write(self._program)
        return self._program

    def learn(
        self,
        rows: Tensor,
        by_latents: Tensor | None = None,
        by_log_det: Tensor | None = None,
        by_images: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A forward pass of images with its gradient by all constants.

        Args:
            rows: images (N, D), float32.
            by_latents: the gradient by latents (N, D); left out, with the next: that of the summed -log p.
            by_log_det: by log-determinants (N,).
            by_images: gets the gradient by images (N, D), if given.

        Returns:
            Latents (N, D), log-determinants (N,), and the gradients one after the other (P,).
        """
        library, struct = self._library, self._written.struct
        at_once = max(1, min(self._most_groups, -(-len(rows) // int(library.lanes()))))
        latents, log_det = torch.empty_like(rows), rows.new_empty(len(rows))
        gradients = rows.new_zeros(sum(self._written.sizes))
        sizes = (library.saved_bytes(struct, at_once, 1), library.scratch_bytes(struct, at_once))
        workspace = self._workspaces.take(at_once, 1, *sizes)
        given = (rows, by_latents, by_log_det, latents, log_det, by_images, gradients)
        library.learn(struct, len(rows), at_once, *map(address, (*given, workspace.saved, workspace.scratch)))
        self._workspaces.leave(workspace)
        return latents, log_det, gradients

    def by_constant(self, gradients: Tensor) -> list[Tensor]:
        """What `learn` gives, as one tensor of each constant's shape."""
        parts = gradients.split(self._written.sizes)
        return [_as(tensor, part) for part, tensor in zip(parts, self.constants, strict=True)]

    def by_parameters(self, parts: Sequence[Tensor], by_log_det: Tensor) -> tuple[Tensor, ...]:
        """Gradients by the flow's parameters in their order, from those by its constants since the last `refresh`.

        Args:
            parts: one for each constant.
            by_log_det: by the log-determinant that no image changes.
        """
        return _through_folding(self.constants, parts, self.program.log_det, by_log_det, self._parameters)


def _through_folding(
    constants: Sequence[Tensor],
    parts: Sequence[Tensor],
    log_det: Tensor,
    by_log_det: Tensor,
    parameters: Sequence[nn.Parameter],
) -> tuple[Tensor, ...]:
    """Gradients by a flow's parameters, from those by its folded constants.

    Args:
        constants: as `KernelProgram.write` gives them.
        parts: the gradient by each.
        log_det: the log-determinant that no image changes, folded too.
        by_log_det: the gradient by it.
        parameters: of the flow.
    """
    # Most weights are constants themselves; autograd takes the others through the folding. One weight may be both,
    # or several constants: layers can share it.
    found: dict[int, Tensor] = {}
    ends = []
    for constant, part in zip(constants, parts, strict=True):
        if constant.is_leaf:
            _add(found, constant, part)
        else:
            ends.append((constant, part))
    if log_det.requires_grad:
        ends.append((log_det, by_log_det))
    if ends:
        outputs, by_outputs = zip(*ends, strict=True)
        folding = torch.autograd.grad(outputs, parameters, by_outputs, allow_unused=True)
        for parameter, gradient in zip(parameters, folding, strict=True):
            if gradient is not None:
                _add(found, parameter, gradient)
    # A weight that no layer uses changes nothing.
    return tuple(
        found[id(parameter)] if id(parameter) in found else torch.zeros_like(parameter) for parameter in parameters
    )


def _add(found: dict[int, Tensor], weight: Tensor, gradient: Tensor) -> None:
    found[id(weight)] = found[id(weight)] + gradient if id(weight) in found else gradient


def _as(constant: Tensor, values: Tensor) -> Tensor:
    """A constant's gradient from the kernel, which has a weight's input channels last: (out, k, k, in)."""
    if constant.ndim == 1:
        return values
    outputs, inputs, height, width = constant.shape
    return values.view(outputs, height, width, inputs).permute(0, 3, 1, 2)
