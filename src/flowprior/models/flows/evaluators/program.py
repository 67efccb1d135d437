"""A flow written down as a list of plain steps with folded constants, for the compiled kernel and for torch.

Folding is torch arithmetic on the flow's weights: gradients by the constants lead back to gradients by the weights.
Actnorms and 1x1 matrices that follow each other become one affine map per pixel with its inverse; gains, biases and
norms inside coupling networks become part of the convolutions; log-determinants that no image changes are one number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from flowprior.models.flows.base import Flow
from flowprior.models.flows.evaluators.linear import Row, affines, log_det_of
from flowprior.models.flows.evaluators.networks import (
    Convolution,
    Ending,
    NotFoldableError,
    convolutions_of,
    ended,
    is_plain,
)
from flowprior.models.flows.layers import (
    ActNorm,
    Bijection,
    Chain,
    Coupling,
    HaarSqueeze,
    Mixing,
    SigmoidAffine,
    Squeeze,
    additive,
    sigmoid_affine,
    tanh_affine,
)
from flowprior.models.flows.layers.coupling import ScaleShift


@dataclass(frozen=True)
class Step:
    """One step of a flow, in its forward direction.

    Attributes:
        kind: squeeze, haar (a squeeze by the wavelet), affine, scale, coupling or split.
        shape: (C, H, W) of its input.
        matrix: affine: (C, C), with `shift` (C,); scale: its diagonal (C,), likewise.
        network: coupling: convolutions of its network; log-scales come first, then shifts.
        rule: coupling: how log-scales are bounded.
        scale_bias: coupling: added to a sigmoid's scales.
        scale_limit: coupling: a sigmoid's arguments stay in [-scale_limit, scale_limit]; None: they have no end.
        swap: coupling: whether the second half is kept.
        keep: split: channels that go on; the rest is latent, from `offset` of the latent vector on.
    """

    kind: Literal["squeeze", "haar", "affine", "scale", "coupling", "split"]
    shape: tuple[int, int, int]
    matrix: Tensor | None = None
    shift: Tensor | None = None
    network: tuple[Convolution, ...] = ()
    rule: Literal["tanh", "sigmoid", "additive"] = "additive"
    scale_bias: float = 0.0
    scale_limit: float | None = None
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
        NotFoldableError: it has a layer that no step stands for, or ways of its own from images to latents and back.
    """
    ways = ("forward", "inverse", "log_prob", "sample")
    if not is_plain(flow, type(flow)) or any(getattr(type(flow), way, None) is not getattr(Flow, way) for way in ways):
        raise NotFoldableError(f"{type(flow).__name__} itself")
    steps: list[Step] = []
    rows: list[Row] = []
    at: list[int] = []
    endings: dict[int, Ending] = {}
    offset, shape = 0, flow.shape
    for level, keep in zip(flow.levels, (*flow.carried, 0), strict=True):
        row: list[ActNorm | Mixing] = []
        for layer in [*_layers(level), None]:
            if isinstance(layer, ActNorm | Mixing):
                if _channels(layer) != shape[0]:
                    raise NotFoldableError(f"{_channels(layer)} channels of {layer} on {shape[0]} of a map")
                row.append(layer)
                continue
            if row:
                rows.append(tuple(row))
                at.append(len(steps))
                steps.append(Step("affine", shape))
                row = []
            if isinstance(layer, Coupling):
                step, endings[len(steps)] = _coupling(layer, shape)
                steps.append(step)
            elif layer is not None:
                if shape[1] % 2 or shape[2] % 2:
                    raise NotFoldableError(f"{layer} of a map of {shape[1]}x{shape[2]}")
                steps.append(Step("haar" if isinstance(layer, HaarSqueeze) else "squeeze", shape))
                shape = (4 * shape[0], shape[1] // 2, shape[2] // 2)
        if not 0 <= keep <= shape[0]:
            raise NotFoldableError(f"{keep} of {shape[0]} channels carried on")
        steps.append(Step("split", shape, keep=keep, offset=offset))
        offset += (shape[0] - keep) * shape[1] * shape[2]
        shape = (keep, *shape[1:])
    for number, (matrix, shift) in zip(at, affines(rows), strict=True):
        kind: Literal["affine", "scale"] = "affine" if matrix.ndim == 2 else "scale"
        steps[number] = replace(steps[number], kind=kind, matrix=matrix, shift=shift)
    for number, last in zip(endings, ended(list(endings.values())), strict=True):
        steps[number] = replace(steps[number], network=(*steps[number].network, last))
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


def _channels(layer: ActNorm | Mixing) -> int:
    return layer.shift.numel() if isinstance(layer, ActNorm) else len(layer.weight)


def _layers(level: nn.Module) -> Iterable[Bijection]:
    # A class derived from one of these may do anything.
    if is_plain(level, Chain):
        assert isinstance(level, Chain)
        for part in level.parts:
            yield from _layers(part)
    elif is_plain(level, ActNorm, Mixing, Coupling, Squeeze, HaarSqueeze):
        assert isinstance(level, Bijection)
        yield level
    else:
        raise NotFoldableError(type(level).__name__)


_RULES: tuple[tuple[ScaleShift, Literal["tanh", "sigmoid", "additive"]], ...] = (
    (tanh_affine, "tanh"),
    (sigmoid_affine, "sigmoid"),
    (additive, "additive"),
)


def _coupling(layer: Coupling, shape: tuple[int, int, int]) -> tuple[Step, Ending]:
    """A coupling without its last convolution, and what that is made from."""
    bounds = layer.scale_shift if type(layer.scale_shift) is SigmoidAffine else SigmoidAffine()
    known_rule = sigmoid_affine if bounds is layer.scale_shift else layer.scale_shift
    rule = next((name for known, name in _RULES if known is known_rule), None)
    if rule is None or shape[0] % 2:
        raise NotFoldableError(f"coupling rule {layer.scale_shift}, {shape[0]} channels")
    network, last = convolutions_of(layer.network, shape[1:])
    half = shape[0] // 2
    _check_fits((*network, last.convolution), (half, *shape[1:]), half if rule == "additive" else 2 * half)
    # A sigmoid's scales stand at even channels; steps have them first.
    last = replace(last, even_first=rule == "sigmoid")
    step = Step("coupling", shape, network=network, rule=rule, swap=layer.swap)
    return replace(step, scale_bias=bounds.bias, scale_limit=bounds.limit), last


def _check_fits(network: tuple[Convolution, ...], shape: tuple[int, int, int], outputs: int) -> None:
    """Raise unless each convolution reads what the one before it gives, and the last gives `outputs` per pixel.

    What torch would repeat to fit, or refuse, lies beyond the memory that a kernel has for it.
    """
    at = shape
    for convolution in network:
        if (convolution.weight.shape[1], *convolution.side) != at:
            raise NotFoldableError(f"a convolution of {convolution.weight.shape[1]} channels on a map of {at}")
        channels, (height, width) = len(convolution.weight), convolution.output_side
        at = (channels // 4, 2 * height, 2 * width) if convolution.shuffle else (channels, height, width)
    if at != (outputs, *shape[1:]):
        raise NotFoldableError(f"a coupling network that gives {at} where {(outputs, *shape[1:])} is asked for")
