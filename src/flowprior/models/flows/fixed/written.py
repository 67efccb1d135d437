"""A program in the kernel's own memory: structs, and weights laid out as its convolutions read them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowprior.models.flows.base import Flow
from flowprior.models.flows.fixed.compiled import Conv, FlowStruct, Op
from flowprior.models.flows.fixed.linear import inverse_map
from flowprior.models.flows.fixed.networks import Convolution, NotFoldableError
from flowprior.models.flows.fixed.program import Program, Step

_KINDS = {"squeeze": 0, "haar": 0, "affine": 1, "coupling": 2, "split": 3, "scale": 4}
_RULES = {"tanh": 0, "sigmoid": 1, "additive": 2}
_TILE = 6
_MOST_CHANNELS, _LARGEST_KERNEL = 4096, 3
#: Winograd's algorithm: products per tile and pair of channels; sides of a map from which on it is faster.
_POINTS, _LEAST_SIDE = 16, 8


def convolutions(step: Step, inverses: bool) -> tuple[Convolution, ...]:
    """What of a step has weights: a coupling's network; an affine map as a 1x1 convolution, of one input if a scale.

    Args:
        step: the step.
        inverses: give the inverse of an affine map as well, as a second one.
    """
    if step.matrix is None or step.shift is None:
        return step.network
    side = step.shape[1:]
    maps = [(step.matrix, step.shift)]
    if inverses:
        maps.append(inverse_map(step.matrix, step.shift))
    return tuple(
        Convolution((matrix[:, None] if matrix.ndim == 1 else matrix)[:, :, None, None], shift, 0, side)
        for matrix, shift in maps
    )


def constants(program: Program, inverses: bool) -> list[Tensor]:
    """All weights of a program as the kernel takes them: weight (out, in, k, k) and bias (out,) of each convolution."""
    found = (convolution for step in program.steps for convolution in convolutions(step, inverses))
    return [tensor for convolution in found for tensor in (convolution.weight, convolution.bias)]


class Written:
    """Memory of one program; `write` fills it with weights, as often as they change.

    Args:
        library: the kernel.
        program: the program, of which only the shapes matter here.
        flow: its flow.
        inverses: whether affine maps have their inverses beside them; only learning does without.

    Attributes:
        struct: what the kernel is given.
        sizes: numbers of values of all constants, in order; gradients by them lie in this order too.

    Raises:
        NotFoldableError: a convolution larger than the kernel's.
    """

    def __init__(self, library: ctypes.CDLL, program: Program, flow: Flow, inverses: bool) -> None:
        self._library, self._inverses = library, inverses
        self._held: list[Any] = []
        self.sizes: list[int] = []
        self._most_channels = 0
        ops = (Op * len(program.steps))(*(self._op(step, convolutions(step, inverses)) for step in program.steps))
        widest = max(values for step in program.steps for values in _values(step))
        channels, height, width = flow.shape
        self.struct = FlowStruct(
            ops,
            len(ops),
            channels,
            height,
            width,
            flow.dimensions,
            flow.low,
            flow.high,
            0.0,
            self._most_channels,
            widest,
        )

    def write(self, program: Program) -> list[Tensor]:
        """Take the weights that a program of the same flow has now.

        Returns:
            Its `constants`, as gradients by them lie.
        """
        values = constants(program, self._inverses)
        plain = [tensor.detach().contiguous() for tensor in values]
        addresses = (ctypes.c_void_p * len(plain))(*(tensor.data_ptr() for tensor in plain))
        self._library.write_weights(ctypes.byref(self.struct), addresses)
        self.struct.log_det = float(program.log_det.detach())
        return values

    def _op(self, step: Step, network: Sequence[Convolution]) -> Op:
        written = (Conv * max(1, len(network)))(*(self._conv(convolution) for convolution in network))
        self._held.append(written)
        return Op(
            _KINDS[step.kind], *step.shape, int(step.kind == "haar"), _RULES[step.rule], int(step.swap),
            len(network), step.keep, step.offset, written,
        )  # fmt: skip

    def _conv(self, convolution: Convolution) -> Conv:
        outputs, inputs, size, _ = convolution.weight.shape
        if max(outputs, inputs) > _MOST_CHANNELS or size > _LARGEST_KERNEL:
            raise NotFoldableError(f"a convolution of {inputs} to {outputs} channels, {size}x{size}")
        quick = size == 3 and convolution.pad == 1 and all(n >= _LEAST_SIDE and n % 2 == 0 for n in convolution.side)
        if quick:
            self._most_channels = max(self._most_channels, inputs, outputs)
        each = _POINTS if quick else size * size
        forward, back = _whole(outputs) * inputs * each, _whole(inputs) * outputs * each
        places = (0, _whole(outputs), 0, forward, back) if quick else (forward, _whole(outputs), back, 0, 0)
        begin = sum(self.sizes)
        self.sizes += [outputs * inputs * size * size, outputs]
        return Conv(
            inputs, outputs, size, convolution.pad, *convolution.side, int(convolution.shuffle), int(convolution.relu),
            *(self._room(count) for count in places), begin,
        )  # fmt: skip

    def _room(self, values: int) -> int | None:
        if not values:
            return None
        # Zeros: what lies beyond the last channel of a tile is multiplied too.
        self._held.append(torch.zeros(values))
        address: int = self._held[-1].data_ptr()
        return address


def _whole(channels: int) -> int:
    """Channels of whole tiles."""
    return math.ceil(channels / _TILE) * _TILE


def _values(step: Step) -> list[int]:
    """Values per image of the maps that a step reads and writes."""
    inside = [
        values
        for convolution in step.network
        for values in (
            len(convolution.weight) * math.prod(convolution.output_side),
            convolution.weight.shape[1] * math.prod(convolution.side),
        )
    ]
    return [math.prod(step.shape), *inside]
