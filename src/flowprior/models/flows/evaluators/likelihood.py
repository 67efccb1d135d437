"""The gradient of a flow's likelihood by its weights, run by the compiled kernel: what training asks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowprior.models.flows.base import Flow, standard_normal_log_prob
from flowprior.models.flows.evaluators.by_kernel import checked_rows, groups_at_once, kernel_for
from flowprior.models.flows.evaluators.interface import address
from flowprior.models.flows.evaluators.kernel_program import KernelProgram
from flowprior.models.flows.evaluators.program import Program, folded
from flowprior.models.flows.evaluators.workspaces import Workspaces

#: Workspaces kept: more threads than these that ask at once find none left for them.
_MOST_THREADS = 64


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
        self._library = kernel_for(flow)
        self._flow, self._parameters = flow, list(flow.parameters())
        with torch.no_grad():
            self._written = KernelProgram(self._library, folded(flow), flow, inverses=False)
        self._most_groups = groups_at_once(flow)
        self._workspaces = Workspaces(_MOST_THREADS)
        self._program: Program | None = None
        self._constants: list[Tensor] = []

    def refresh(self) -> None:
        """Take the flow's weights as they are now."""
        self._program = folded(self._flow)
        self._constants = self._written.write(self._program)

    def share(self, images: Tensor) -> Share:
        """Of images (N, C, H, W) in [0, 1], on the calling thread; several threads may ask at once."""
        if images.requires_grad:
            raise ValueError("gradients by images are the flow's own: ask flow.log_prob, or give images.detach()")
        rows = checked_rows(images.flatten(1), self._flow.dimensions)
        lanes = int(self._library.lanes())
        at_once = max(1, min(self._most_groups, -(-len(rows) // lanes)))
        struct = self._written.struct
        latents, log_det = torch.empty_like(rows), rows.new_empty(len(rows))
        gradients = rows.new_zeros(sum(self._written.sizes))
        sizes = (self._library.saved_bytes(struct, at_once, 1), self._library.scratch_bytes(struct, at_once))
        workspace = self._workspaces.take(at_once, 1, *sizes)
        memory = (rows, None, None, latents, log_det, None, gradients, workspace.saved, workspace.scratch)
        self._library.learn(struct, len(rows), at_once, *map(address, memory))
        self._workspaces.leave(workspace)
        log_prob = standard_normal_log_prob(latents) + log_det
        return Share(-log_prob.double().sum(), gradients, len(rows))

    def gradients(self, shares: list[Share], scale: float = 1.0) -> tuple[Tensor, ...]:
        """Gradients of `scale` times the summed -log p by the flow's parameters, in their order.

        Args:
            shares: of all parts of the batch, since the last `refresh`.
            scale: such as one over the number of images.
        """
        if self._program is None:
            raise RuntimeError("no weights were taken yet; call refresh() after each change of them")
        flat = functools.reduce(torch.add, (share.by_constants for share in shares)) * scale
        # What no image changes enters each of them once, with a minus.
        by_log_det = self._program.log_det.new_full((), -scale * sum(share.images for share in shares))
        parts = by_constant(self._constants, flat, self._written.sizes)
        return by_parameters(self._constants, parts, self._program.log_det, by_log_det, self._parameters)


def by_constant(constants: Sequence[Tensor], flat: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Gradients by folded constants, each of its shape, from those that the kernel leaves one after the other."""
    return [_as(tensor, part) for part, tensor in zip(flat.split(list(sizes)), constants, strict=True)]


def by_parameters(
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
