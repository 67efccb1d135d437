"""A program in the kernel's own memory: structs, and weights laid out as its convolutions read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowprior.models.flows.base import Flow
from flowprior.models.flows.evaluators.interface import address, interface
from flowprior.models.flows.evaluators.linear import inverse_map
from flowprior.models.flows.evaluators.networks import Convolution, NotFoldableError
from flowprior.models.flows.evaluators.program import Program, Step


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


class KernelProgram:
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
        NotFoldableError: a convolution larger than the kernel's, or a ReLU with an end.
    """

    def __init__(self, library: Any, program: Program, flow: Flow, inverses: bool) -> None:
        self._library, self._ffi, self._inverses = library, interface(), inverses
        self._held: list[Any] = []
        self.sizes: list[int] = []
        self._most_channels = 0
        ops = self._array("Op", [self._op(step, convolutions(step, inverses)) for step in program.steps])
        channels, height, width = flow.shape
        values = {
            "ops": ops,
            "count": len(ops),
            "channels": channels,
            "height": height,
            "width": width,
            "dimensions": flow.dimensions,
            "low": flow.low,
            "high": flow.high,
            "most_channels": self._most_channels,
            "widest": max(values for step in program.steps for values in _values(step)),
        }
        self.struct = self._ffi.new("Flow *", values)

    def write(self, program: Program) -> list[Tensor]:
        """Take the weights that a program of the same flow has now.

        Returns:
            Its `constants`, as gradients by them lie.
        """
        values = constants(program, self._inverses)
        plain = [tensor.detach().contiguous() for tensor in values]
        addresses = self._ffi.new("const float *[]", [address(tensor) for tensor in plain])
        self._library.write_weights(self.struct, addresses)
        self.struct.log_det = float(program.log_det.detach())
        return values

    def _op(self, step: Step, network: Sequence[Convolution]) -> dict[str, Any]:
        channels, height, width = step.shape
        return {
            "kind": getattr(self._library, step.kind.upper()),
            "channels": channels,
            "height": height,
            "width": width,
            "rule": getattr(self._library, step.rule.upper()),
            "scale_bias": step.scale_bias,
            "scale_limit": math.inf if step.scale_limit is None else step.scale_limit,
            "swap": step.swap,
            "convs": len(network),
            "keep": step.keep,
            "offset": step.offset,
            "network": self._array("Conv", [self._conv(convolution) for convolution in network]),
        }

    def _conv(self, convolution: Convolution) -> dict[str, Any]:
        library = self._library
        outputs, inputs, size, _ = convolution.weight.shape
        if convolution.most is not None:
            raise NotFoldableError(f"a ReLU that ends at {convolution.most:g}")
        if max(outputs, inputs) > library.MAX_CHANNELS or size > library.MAX_KERNEL:
            raise NotFoldableError(f"a convolution of {inputs} to {outputs} channels, {size}x{size}")
        even = all(side >= library.LEAST_SIDE and side % 2 == 0 for side in convolution.side)
        quick = size == 3 and convolution.pad == 1 and even
        if quick:
            self._most_channels = max(self._most_channels, inputs, outputs)
        each = library.POINTS if quick else size * size
        tiled_outputs, tiled_inputs = self._whole(outputs), self._whole(inputs)
        begin = sum(self.sizes)
        self.sizes += [outputs * inputs * size * size, outputs]
        return {
            "cin": inputs,
            "cout": outputs,
            "kernel": size,
            "pad": convolution.pad,
            "height": convolution.side[0],
            "width": convolution.side[1],
            "shuffle": convolution.shuffle,
            "relu": convolution.relu,
            "points" if quick else "weight": self._room(tiled_outputs * inputs * each),
            "adjoint_points" if quick else "adjoint": self._room(tiled_inputs * outputs * each),
            "bias": self._room(tiled_outputs),
            "gradient": begin,
        }

    def _array(self, kind: str, items: list[dict[str, Any]]) -> Any:
        self._held.append(self._ffi.new(f"{kind}[]", items))
        return self._held[-1]

    def _room(self, values: int) -> Any:
        # Zeros: what lies beyond the last channel of a tile is multiplied too.
        self._held.append(torch.zeros(values))
        return address(self._held[-1])

    def _whole(self, channels: int) -> int:
        """Channels of whole tiles."""
        tile: int = self._library.TILE
        return math.ceil(channels / tile) * tile


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
