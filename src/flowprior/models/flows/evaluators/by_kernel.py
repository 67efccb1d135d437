"""A flow with fixed weights, run by the compiled kernel; to a solver it is the flow itself."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from flowprior.models.flows.base import Flow
from flowprior.models.flows.evaluators.base import FlowEvaluator
from flowprior.models.flows.evaluators.compiled import kernel
from flowprior.models.flows.evaluators.interface import address
from flowprior.models.flows.evaluators.kernel_program import KernelProgram
from flowprior.models.flows.evaluators.networks import NotFoldableError
from flowprior.models.flows.evaluators.program import Program, folded
from flowprior.models.flows.evaluators.workspaces import Workspace, Workspaces
from flowprior.models.flows.once import once

#: Workspaces kept: those of a full batch and of a last, smaller one.
_ROOMS = 2
#: Flows with more weights than the caches hold run several groups of images at once, so that weights are fetched less.
_HEAVY, _GROUPS = 1_000_000, 8


def kernel_for(flow: Flow) -> Any:
    """The kernel, if it can run a flow of this kind of numbers.

    Raises:
        NotFoldableError: there is none, or the flow is not in float32 on the CPU.
    """
    library = kernel()
    if library is None:
        raise NotFoldableError("no kernel")
    weights = [*flow.parameters(), *flow.buffers()]
    for weight in weights:
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            raise NotFoldableError(f"{weight.dtype} on {weight.device}")
    if not weights:
        raise NotFoldableError("no weights")
    return library


def checked_rows(rows: Tensor, dimensions: int) -> Tensor:
    """Rows as the kernel reads them.

    Raises:
        ValueError: not float32 (N, dimensions) on the CPU.
    """
    if rows.dtype != torch.float32 or rows.device.type != "cpu" or rows.shape[1:] != (dimensions,):
        raise ValueError(
            f"the kernel takes float32 rows (N, {dimensions}) on the CPU, got {rows.dtype} {tuple(rows.shape)} on "
            f"{rows.device}; convert them, or ask the flow itself"
        )
    return rows.contiguous()


def groups_at_once(flow: Flow) -> int:
    """Most groups of images that the kernel runs side by side."""
    return _GROUPS if sum(parameter.numel() for parameter in flow.parameters()) > _HEAVY else 1


class KernelFlow(FlowEvaluator):
    """Forward, inverse and density of a flow whose weights do not change, on the CPU in float32.

    It copies what it needs; later changes of the flow's weights do not reach it. Threads: those torch has, or
    `with_threads`.

    Args:
        flow: the flow.

    Raises:
        NotFoldableError: it has a layer that the kernel does not know, is not in float32 on the CPU, or there is no
            kernel on this machine.
    """

    def __init__(self, flow: Flow) -> None:
        library = kernel_for(flow)
        super().__init__(flow)
        self.library = library
        self._threads: int | None = None
        self._workspaces = Workspaces(_ROOMS)
        with torch.no_grad():
            program = folded(flow)
            self._written = KernelProgram(library, program, flow, inverses=True)
            self._written.write(program)
        self._struct = self._written.struct
        self._lanes = int(library.lanes())
        self.most_groups = groups_at_once(flow)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.forward`."""
        z, log_det = _Pass.apply(self, self.library.FORWARD, x.flatten(1))
        return z, log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.inverse`."""
        x, log_det = _Pass.apply(self, self.library.INVERSE, z)
        return x.reshape(-1, *self.shape), log_det

    def take(self, program: Program) -> None:
        """Run another program of the same flow from now on: its weights as they are by then."""
        with torch.no_grad():
            self._written.write(program)

    def with_threads(self, threads: int) -> KernelFlow:
        """The same flow on so many threads, however many torch has."""
        other = copy.copy(self)
        other._threads, other._workspaces = threads, Workspaces(_ROOMS)
        return other

    @property
    def threads(self) -> int:
        """How many threads share a batch."""
        return min(self._threads or torch.get_num_threads(), int(self.library.most_threads()))

    def bytes_per_image(self) -> int:
        """What a pass keeps of each image for its gradient."""
        return int(self.library.saved_bytes(self._struct, 1, 0)) // self._lanes

    def workspace(self, count: int) -> Workspace:
        """Where a pass over `count` images leaves what its gradient needs, divided so that every thread has work."""
        groups, threads = math.ceil(count / self._lanes), self.threads
        at_once = max(1, min(self.most_groups, groups // threads))
        size = math.ceil(groups / at_once) * int(self.library.saved_bytes(self._struct, at_once, 0))
        buffers = threads * int(self.library.scratch_bytes(self._struct, at_once))
        return self._workspaces.take(at_once, threads, size, buffers)

    def leave(self, workspace: Workspace) -> None:
        """Keep a workspace for the next pass."""
        self._workspaces.leave(workspace)

    def run(self, number: int, rows: Tensor, by_log_det: Tensor | None, workspace: Workspace) -> tuple[Tensor, Tensor]:
        """One pass of the kernel over rows (N, D), by its number in `flow.h`."""
        rows = checked_rows(rows, self.dimensions)
        out, log_det = torch.empty_like(rows), rows.new_empty(len(rows))
        memory = (rows, by_log_det, out, log_det, workspace.saved, workspace.scratch)
        self.library.run(self._struct, number, len(rows), workspace.at_once, workspace.threads, *map(address, memory))
        return out, log_det


class _Pass(torch.autograd.Function):
    """A pass of the kernel, with its gradient by the rows it was given; there is no second one."""

    @staticmethod
    def forward(ctx: Any, flow: KernelFlow, number: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        ctx.flow, ctx.number, ctx.workspace = flow, number, flow.workspace(len(rows))
        result = flow.run(number, rows.detach(), None, ctx.workspace)
        if not ctx.needs_input_grad[2]:
            flow.leave(ctx.workspace)
            ctx.workspace = None
        else:
            # Not for its values: they may change in place, as a search's iterate does, once the kernel has them.
            ctx.rows = rows
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:  # type: ignore[override]
        by_rows, by_log_det = gradients
        if ctx.workspace is None:
            raise RuntimeError("a pass of a fixed flow has one gradient, taken once; evaluate it again")
        by_input = ctx.flow.run(ctx.number + 1, by_rows, by_log_det.contiguous(), ctx.workspace)[0]
        ctx.flow.leave(ctx.workspace)
        ctx.workspace = None
        who = f"flow '{ctx.flow.name}' run by the compiled kernel"
        return None, None, once(by_input, who, ctx.rows, by_rows, by_log_det)
