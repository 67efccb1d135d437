"""A flow written down as a list of plain steps with folded constants, for the compiled kernel and for torch.

Folding is torch arithmetic on the flow's weights: gradients by the constants lead back to gradients by the weights.
Actnorms and 1x1 matrices that follow each other become one affine map per pixel with its inverse; gains, biases and
norms inside coupling networks become part of the convolutions; log-determinants that no image changes are one number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from flowprior.flows.base import Flow
from flowprior.flows.chavez import ChavezNetwork, SizedConv
from flowprior.flows.fixed.linear import Row, affines, log_det_of
from flowprior.flows.glow import GainedConv
from flowprior.flows.layers import (
    ActNorm,
    Bijection,
    Chain,
    Coupling,
    HaarSqueeze,
    Mixing,
    Squeeze,
    additive,
    sigmoid_affine,
    tanh_affine,
)


class NotFoldableError(Exception):
    """A layer that no step stands for; such a flow runs as it is."""


@dataclass(frozen=True)
class Convolution:
    """A convolution with stride 1, and what follows it.

    Attributes:
        weight: (out, in, k, k).
        bias: (out,).
        pad: zeros around the map.
        side: (height, width) of its input.
        shuffle: whether depth goes to space, by 2, after it.
        relu: whether max(0, .) follows.
    """

    weight: Tensor
    bias: Tensor
    pad: int
    side: tuple[int, int]
    shuffle: bool = False
    relu: bool = False

    @property
    def output_side(self) -> tuple[int, int]:
        """(height, width) of its output, before depth goes to space."""
        grown = 2 * self.pad - self.weight.shape[2] + 1
        return self.side[0] + grown, self.side[1] + grown


@dataclass(frozen=True)
class Step:
    """One step of a flow, in its forward direction.

    Attributes:
        kind: squeeze, haar (a squeeze by the wavelet), affine, scale, coupling or split.
        shape: (C, H, W) of its input.
        matrix: affine: (C, C), with `shift` (C,); scale: its diagonal (C,), likewise.
        network: coupling: convolutions of its network; log-scales come first, then shifts.
        rule: coupling: how log-scales are bounded.
        swap: coupling: whether the second half is kept.
        keep: split: channels that go on; the rest is latent, from `offset` of the latent vector on.
    """

    kind: Literal["squeeze", "haar", "affine", "scale", "coupling", "split"]
    shape: tuple[int, int, int]
    matrix: Tensor | None = None
    shift: Tensor | None = None
    network: tuple[Convolution, ...] = ()
    rule: Literal["tanh", "sigmoid", "additive"] = "additive"
    swap: bool = False
    keep: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Program:
    """All steps of a flow, and the log-determinant that does not depend on the image: one number, in float64."""

    steps: tuple[Step, ...]
    log_det: Tensor


def folded(flow: Flow) -> Program:
    """Write a flow down as steps.

    Raises:
        NotFoldableError: it has a layer that no step stands for.
    """
    steps: list[Step] = []
    rows: list[Row] = []
    at: list[int] = []
    offset, shape = 0, flow.shape
    for level, keep in zip(flow.levels, (*flow.carried, 0), strict=True):
        row: list[ActNorm | Mixing] = []
        for layer in [*_layers(level), None]:
            if isinstance(layer, ActNorm | Mixing):
                row.append(layer)
                continue
            if row:
                rows.append(tuple(row))
                at.append(len(steps))
                steps.append(Step("affine", shape))
                row = []
            if isinstance(layer, Coupling):
                steps.append(_coupling(layer, shape))
            elif layer is not None:
                steps.append(Step("haar" if isinstance(layer, HaarSqueeze) else "squeeze", shape))
                shape = (4 * shape[0], shape[1] // 2, shape[2] // 2)
        steps.append(Step("split", shape, keep=keep, offset=offset))
        offset += (shape[0] - keep) * shape[1] * shape[2]
        shape = (keep, *shape[1:])
    for number, (matrix, shift) in zip(at, affines(rows), strict=True):
        kind: Literal["affine", "scale"] = "affine" if matrix.ndim == 2 else "scale"
        steps[number] = replace(steps[number], kind=kind, matrix=matrix, shift=shift)
    areas = [math.prod(steps[number].shape[1:]) for number in at]
    return Program(tuple(steps), flow._range_log_det + log_det_of(rows, areas))


def pixels_per_weight(program: Program) -> float:
    """How many pixels of an image a weight of the coupling networks meets, on average."""
    uses = weights = 0
    for convolution in (convolution for step in program.steps for convolution in step.network):
        height, width = convolution.output_side
        uses += convolution.weight.numel() * height * width
        weights += convolution.weight.numel()
    return uses / max(1, weights)


def _layers(level: nn.Module) -> Iterable[Bijection]:
    if isinstance(level, Chain):
        for part in level.parts:
            yield from _layers(part)
    elif isinstance(level, ActNorm | Mixing | Coupling | Squeeze | HaarSqueeze):
        yield level
    else:
        raise NotFoldableError(type(level).__name__)


_RULES: dict[Any, str] = {tanh_affine: "tanh", sigmoid_affine: "sigmoid", additive: "additive"}


def _coupling(layer: Coupling, shape: tuple[int, int, int]) -> Step:
    rule = _RULES.get(layer.scale_shift)
    if rule is None or shape[0] % 2:
        raise NotFoldableError(f"coupling rule {layer.scale_shift}, {shape[0]} channels")
    network = list(_network(layer.network, shape[1:]))
    if network[-1].relu:
        raise NotFoldableError(f"a coupling network that ends in a ReLU: {layer.network}")
    if rule == "sigmoid":
        # Scales stand at even channels there; steps have them first.
        network[-1] = _reordered(network[-1])
    return Step("coupling", shape, network=tuple(network), rule=rule, swap=layer.swap)  # type: ignore[arg-type]


def _reordered(last: Convolution) -> Convolution:
    outputs = len(last.weight) // (4 if last.shuffle else 1)
    order = torch.cat([torch.arange(0, outputs, 2), torch.arange(1, outputs, 2)])
    if last.shuffle:
        order = (4 * order[:, None] + torch.arange(4)).flatten()
    return Convolution(last.weight[order], last.bias[order], last.pad, last.side, last.shuffle, last.relu)


def _network(network: nn.Module, side: tuple[int, int]) -> Sequence[Convolution]:
    if isinstance(network, ChavezNetwork):
        scale = network.norm.log_scale.exp().flatten()
        first = _sized(network.first, side, scale, network.norm.shift.flatten() * scale, relu=True)
        gain = (3.0 * network.log_scale).exp().flatten()
        return first, _sized(network.last, side, gain, torch.zeros_like(gain), relu=False)
    if not isinstance(network, nn.Sequential):
        network = nn.Sequential(network)
    found: list[Convolution] = []
    for part in network:
        if isinstance(part, nn.ReLU) and found:
            last = found[-1]
            found[-1] = Convolution(last.weight, last.bias, last.pad, side, relu=True)
            continue
        if isinstance(part, GainedConv):
            found.append(_gained(_convolution(part.convolution, side), (3.0 * part.log_gain).exp().flatten()))
        else:
            found.append(_convolution(part, side))
    return found


def _gained(plain: Convolution, gain: Tensor) -> Convolution:
    return Convolution(plain.weight * gain.reshape(-1, 1, 1, 1), plain.bias * gain, plain.pad, plain.side)


def _convolution(part: nn.Module, side: tuple[int, int]) -> Convolution:
    plain = isinstance(part, nn.Conv2d) and part.bias is not None and part.stride == (1, 1) and part.groups == 1
    if not plain:
        raise NotFoldableError(repr(part))
    assert isinstance(part, nn.Conv2d) and part.bias is not None
    pad = (part.kernel_size[0] - 1) // 2
    if part.padding != (pad, pad) or part.kernel_size[0] != part.kernel_size[1] or part.kernel_size[0] % 2 == 0:
        raise NotFoldableError(repr(part))
    return Convolution(part.weight, part.bias, pad, side)


def _sized(part: SizedConv, side: tuple[int, int], scale: Tensor, shift: Tensor, relu: bool) -> Convolution:
    """A `SizedConv` and the scale and shift per channel that follow it."""
    if part.spread:
        scale, shift = scale.repeat_interleave(4), shift.repeat_interleave(4)
    convolution = part.convolution
    assert convolution.bias is not None
    weight = convolution.weight * scale.reshape(-1, 1, 1, 1)
    pad = convolution.padding[0]
    assert isinstance(pad, int)
    return Convolution(weight, convolution.bias * scale + shift, pad, side, part.spread, relu)
