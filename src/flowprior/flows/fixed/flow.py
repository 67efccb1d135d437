"""A flow with fixed weights, run by the compiled kernel; to a solver it is the flow itself."""

from __future__ import annotations

import copy
import ctypes
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowprior.flows.base import Flow, standard_normal_log_prob
from flowprior.flows.fixed.compiled import Conv, FlowStruct, Op, kernel
from flowprior.flows.fixed.program import Convolution, NotFoldableError, Program, Step, folded

_KINDS = {"squeeze": 0, "haar": 0, "affine": 1, "coupling": 2, "split": 3}
_RULES = {"tanh": 0, "sigmoid": 1, "additive": 2}
_FORWARD, _FORWARD_GRADIENT, _INVERSE, _INVERSE_GRADIENT = range(4)
_TILE = 6
#: Rooms kept: those of a full batch and of a last, smaller one.
_ROOMS = 2
_MOST_CHANNELS, _LARGEST_KERNEL = 4096, 3
#: Flows with more weights than the caches hold run several groups of images at once, so that weights are fetched less.
_HEAVY, _GROUPS = 1_000_000, 8


class Room(NamedTuple):
    """Memory between a pass and its gradient, and how many groups of images a thread takes at once."""

    at_once: int
    saved: Tensor


class FixedFlow:
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
        library = kernel()
        reference = next(flow.parameters())
        if library is None or reference.device.type != "cpu" or reference.dtype != torch.float32:
            raise NotFoldableError(f"{reference.dtype} on {reference.device}, kernel: {library is not None}")
        self.name, self.shape, self.dimensions = flow.name, flow.shape, flow.dimensions
        self._library = library
        self._threads: int | None = None
        self._rooms: list[Room] = []
        self._held: list[Any] = []
        self._struct = self._written(folded(flow), flow)
        self._lanes = int(library.lanes())
        weights = sum(parameter.numel() for parameter in flow.parameters())
        self._most_groups = _GROUPS if weights > _HEAVY else 1

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.forward`."""
        z, log_det = _Pass.apply(self, _FORWARD, x.flatten(1))
        return z, log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.inverse`."""
        x, log_det = _Pass.apply(self, _INVERSE, z)
        return x.reshape(-1, *self.shape), log_det

    __call__ = forward

    def log_prob(self, x: Tensor) -> Tensor:
        """As `Flow.log_prob`."""
        z, log_det = self.forward(x)
        return standard_normal_log_prob(z) + log_det

    @torch.no_grad()
    def sample(self, count: int, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """As `Flow.sample`, of the same random numbers."""
        z = torch.randn(count, self.dimensions, generator=generator) * temperature
        return self.inverse(z)[0]

    def with_threads(self, threads: int) -> FixedFlow:
        """The same flow on so many threads, however many torch has."""
        other = copy.copy(self)
        other._threads, other._rooms = threads, []
        return other

    @property
    def threads(self) -> int:
        """How many threads share a batch."""
        return self._threads or torch.get_num_threads()

    def bytes_per_image(self) -> int:
        """What a pass keeps of each image for its gradient."""
        return int(self._library.saved_bytes(ctypes.byref(self._struct), 1)) // self._lanes

    def room(self, count: int) -> Room:
        """Where a pass over `count` images leaves what its gradient needs, divided so that every thread has work."""
        groups = math.ceil(count / self._lanes)
        at_once = max(1, min(self._most_groups, groups // self.threads))
        size = math.ceil(groups / at_once) * int(self._library.saved_bytes(ctypes.byref(self._struct), at_once))
        for number, known in enumerate(self._rooms):
            if known.at_once == at_once and len(known.saved) == size:
                return self._rooms.pop(number)
        return Room(at_once, torch.empty(size, dtype=torch.uint8))

    def leave(self, room: Room) -> None:
        """Keep a room for the next pass: fresh memory of megabytes costs more than what is done in it."""
        self._rooms = [*self._rooms[-_ROOMS + 1 :], room]

    def run(self, number: int, rows: Tensor, by_log_det: Tensor | None, room: Room) -> tuple[Tensor, Tensor]:
        """One pass of the kernel over rows (N, D): 0 forward, 1 its gradient, 2 inverse, 3 its gradient."""
        rows = rows.contiguous()
        out, log_det = torch.empty_like(rows), rows.new_empty(len(rows))
        addresses = (
            rows.data_ptr(),
            by_log_det.data_ptr() if by_log_det is not None else None,
            out.data_ptr(),
            log_det.data_ptr(),
            room.saved.data_ptr(),
        )
        threads = self.threads
        if self._library.run(ctypes.byref(self._struct), number, len(rows), room.at_once, threads, *addresses):
            raise MemoryError(f"flow '{self.name}': no memory for {threads} threads")
        return out, log_det

    def _written(self, program: Program, flow: Flow) -> FlowStruct:
        ops = (Op * len(program.steps))(*(self._op(step) for step in program.steps))
        self._held.append(ops)
        channels, height, width = flow.shape
        widest = max(
            values
            for step in program.steps
            for values in (
                math.prod(step.shape),
                *(_output_values(convolution) for convolution in step.network),
                *(convolution.weight.shape[1] * math.prod(convolution.side) for convolution in step.network),
            )
        )
        return FlowStruct(
            ops, len(ops), channels, height, width, flow.dimensions, flow.low, flow.high, program.log_det, widest
        )

    def _op(self, step: Step) -> Op:
        convolutions = step.network
        if step.kind == "affine":
            assert step.matrix is not None and step.shift is not None
            back = torch.linalg.inv(step.matrix)
            pairs = ((step.matrix, step.shift), (back, -back @ step.shift))
            convolutions = tuple(Convolution(m[:, :, None, None], b, 0, step.shape[1:]) for m, b in pairs)
        network = (Conv * max(1, len(convolutions)))(*(self._conv(convolution) for convolution in convolutions))
        self._held.append(network)
        return Op(
            _KINDS[step.kind], *step.shape, int(step.kind == "haar"), _RULES[step.rule], int(step.swap),
            len(convolutions), step.keep, step.offset, network,
        )  # fmt: skip

    def _conv(self, convolution: Convolution) -> Conv:
        outputs, inputs, size, _ = convolution.weight.shape
        if max(outputs, inputs) > _MOST_CHANNELS or size > _LARGEST_KERNEL:
            raise NotFoldableError(f"a convolution of {inputs} to {outputs} channels, {size}x{size}")
        # The transpose of a convolution: channels exchanged, taps reversed.
        adjoint = convolution.weight.flip(-2, -1).transpose(0, 1)
        bias = torch.zeros(math.ceil(outputs / _TILE) * _TILE)
        bias[:outputs] = convolution.bias
        return Conv(
            inputs, outputs, size, convolution.pad, *convolution.side, int(convolution.shuffle), int(convolution.relu),
            *(self._address(tensor) for tensor in (_tiled(convolution.weight), bias, _tiled(adjoint))),
        )  # fmt: skip

    def _address(self, tensor: Tensor) -> int:
        self._held.append(tensor)
        return tensor.data_ptr()


def _output_values(convolution: Convolution) -> int:
    grown = 2 * convolution.pad - convolution.weight.shape[2] + 1
    height, width = convolution.side
    return len(convolution.weight) * (height + grown) * (width + grown)


def _tiled(weight: Tensor) -> Tensor:
    """(out, in, k, k) as the kernel reads it: [tile of 6 outputs][tap][in][6], outputs beyond the last zero."""
    outputs, inputs, size, _ = weight.shape
    tiles = math.ceil(outputs / _TILE)
    padded = torch.zeros(tiles * _TILE, inputs, size * size)
    padded[:outputs] = weight.flatten(2)
    return padded.reshape(tiles, _TILE, inputs, size * size).permute(0, 3, 2, 1).contiguous()


class _Pass(torch.autograd.Function):
    """A pass of the kernel, with its gradient by the rows it was given."""

    @staticmethod
    def forward(ctx: Any, flow: FixedFlow, number: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        ctx.flow, ctx.number, ctx.room = flow, number, flow.room(len(rows))
        return flow.run(number, rows.detach(), None, ctx.room)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:  # type: ignore[override]
        by_rows, by_log_det = gradients
        if ctx.room is None:
            raise RuntimeError("a pass of a fixed flow has one gradient, taken once; evaluate it again")
        by_input = ctx.flow.run(ctx.number + 1, by_rows, by_log_det.contiguous(), ctx.room)[0]
        ctx.flow.leave(ctx.room)
        ctx.room = None
        return None, None, by_input
