"""A flow with fixed weights, its folded steps run by torch on any device; to a solver it is the flow itself.

Maps are kept as (N, H, W, C): an affine step is then one matrix product over all pixels of all images, and
convolutions get the layout that tensor cores read. Nothing waits for the device, so that a CUDA graph can hold a pass.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pixel_shuffle

from flowprior.models.flows.base import Flow
from flowprior.models.flows.evaluators.base import FlowEvaluator
from flowprior.models.flows.evaluators.linear import inverse_map
from flowprior.models.flows.evaluators.networks import Convolution
from flowprior.models.flows.evaluators.program import Step, folded
from flowprior.models.flows.layers import SigmoidAffine

#: Over the pixels (0, 0), (0, 1), (1, 0), (1, 1) of a block: average, horizontal, vertical and diagonal details.
_HAAR = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))


class Affine(NamedTuple):
    """Matrices (C, C) and shifts (C,) of an affine step and of its inverse, for pixels as rows: x @ matrix + shift."""

    matrix: Tensor
    shift: Tensor
    inverse_matrix: Tensor
    inverse_shift: Tensor


class FoldedFlow(FlowEvaluator):
    """Forward, inverse and density of a flow whose weights do not change, on the device and in the dtype of the flow.

    It copies what it needs; later changes of the flow's weights do not reach it.

    Args:
        flow: the flow.
        network_dtype: of the convolutions inside couplings; everything else, log-determinants too, keeps the flow's.

    Raises:
        NotFoldableError: it has a layer that no step stands for.
    """

    def __init__(self, flow: Flow, network_dtype: torch.dtype) -> None:
        super().__init__(flow)
        self._low, self._range = flow.low, flow.high - flow.low
        self._network_dtype = network_dtype
        # On the CPU and in float64: folding is arithmetic on small matrices.
        with torch.no_grad():
            # Whether it can be, first: other layers may not bear to be copied.
            folded(flow)
            program = folded(copy.deepcopy(flow).requires_grad_(False).cpu().double())
            self._log_det = float(program.log_det)
            self._steps = tuple(self._constants(step) for step in _joined(program.steps))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.forward`."""
        h = (x * self._range + self._low).permute(0, 2, 3, 1)
        total = x.new_full((len(x),), self._log_det)
        parts = []
        for step, affine in self._steps:
            match step.kind:
                case "squeeze":
                    h = _squeezed(h)
                case "affine":
                    assert affine is not None
                    h = _at_every_pixel(h, affine.matrix, affine.shift)
                case "coupling":
                    kept, changed = _halves(h, step.swap)
                    log_scale, shift = self._scale_shift(step, kept)
                    if log_scale is None:
                        changed = changed + shift
                    else:
                        changed = torch.addcmul(shift, changed, log_scale.exp())
                        total = total + log_scale.sum((1, 2, 3))
                    h = _whole(kept, changed, step.swap)
                case _:
                    parts.append(h[..., step.keep :].permute(0, 3, 1, 2).flatten(1))
                    h = h[..., : step.keep]
        return torch.cat(parts, dim=1), total

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.inverse`."""
        h = z.new_empty(len(z), 1, 1, 0)
        total = z.new_full((len(z),), -self._log_det)
        for step, affine in reversed(self._steps):
            match step.kind:
                case "squeeze":
                    h = _spread(h)
                case "affine":
                    assert affine is not None
                    h = _at_every_pixel(h, affine.inverse_matrix, affine.inverse_shift)
                case "coupling":
                    kept, changed = _halves(h, step.swap)
                    log_scale, shift = self._scale_shift(step, kept)
                    changed = changed - shift
                    if log_scale is not None:
                        changed = changed * (-log_scale).exp()
                        total = total - log_scale.sum((1, 2, 3))
                    h = _whole(kept, changed, step.swap)
                case _:
                    latent = _latent(step, z)
                    h = torch.cat([h, latent], dim=3) if step.keep else latent
        return (h.permute(0, 3, 1, 2) - self._low) / self._range, total

    def _constants(self, step: Step) -> tuple[Step, Affine | None]:
        network = tuple(
            replace(
                convolution,
                weight=convolution.weight.to(self.reference.device, self._network_dtype).contiguous(
                    memory_format=torch.channels_last
                ),
                bias=convolution.bias.to(self.reference.device, self._network_dtype),
            )
            for convolution in step.network
        )
        if step.kind != "affine":
            return replace(step, network=network), None
        assert step.matrix is not None and step.shift is not None
        of_columns = (step.matrix, step.shift, *inverse_map(step.matrix, step.shift))
        return step, Affine(*(tensor.t().contiguous().to(self.reference) for tensor in of_columns))

    def _scale_shift(self, step: Step, kept: Tensor) -> tuple[Tensor | None, Tensor]:
        """Log-scale, None where volume is kept, and shift, of the changed half."""
        raw = kept.permute(0, 3, 1, 2).to(self._network_dtype)
        for convolution in step.network:
            raw = _convolved(raw, convolution)
        raw = raw.permute(0, 2, 3, 1).to(kept.dtype)
        if step.rule == "additive":
            return None, raw
        scales, shift = raw.chunk(2, dim=3)
        if step.rule == "tanh":
            return 1.5 * torch.tanh(scales), shift
        return SigmoidAffine(step.scale_bias, step.scale_limit).log_scale(scales), shift


def _joined(steps: tuple[Step, ...]) -> list[Step]:
    """The wavelet as a squeeze and a matrix, and matrices that follow each other as one."""
    found: list[Step] = []
    for step in steps:
        if step.kind == "haar":
            channels, height, width = step.shape
            matrix = torch.kron(torch.tensor(_HAAR, dtype=torch.float64) / 2, torch.eye(channels, dtype=torch.float64))
            # From blocks of channels to the squeeze's order: the four pixels of a channel side by side.
            order = torch.arange(4 * channels).reshape(4, channels).T.flatten()
            shape = (4 * channels, height // 2, width // 2)
            found.append(Step("squeeze", step.shape))
            step = Step("affine", shape, matrix=matrix[:, order], shift=matrix.new_zeros(len(matrix)))
        if step.kind == "scale":
            assert step.matrix is not None
            step = replace(step, kind="affine", matrix=step.matrix.diag())
        before = found[-1] if found else step
        if step.kind == before.kind == "affine" and found:
            assert step.matrix is not None and step.shift is not None
            assert before.matrix is not None and before.shift is not None
            shift = step.matrix @ before.shift + step.shift
            found[-1] = replace(step, matrix=step.matrix @ before.matrix, shift=shift)
        else:
            found.append(step)
    return found


def _squeezed(h: Tensor) -> Tensor:
    """(N, H, W, C) -> (N, H/2, W/2, 4C), in the channel order of `pixel_unshuffle`."""
    count, height, width, channels = h.shape
    blocks = h.reshape(count, height // 2, 2, width // 2, 2, channels)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(count, height // 2, width // 2, 4 * channels)


def _spread(h: Tensor) -> Tensor:
    """(N, H, W, 4C) -> (N, 2H, 2W, C), undoing `_squeezed`."""
    count, height, width, channels = h.shape
    blocks = h.reshape(count, height, width, channels // 4, 2, 2)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(count, 2 * height, 2 * width, channels // 4)


def _at_every_pixel(h: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    return torch.addmm(shift, h.reshape(-1, h.shape[3]), matrix).reshape(h.shape)


def _halves(h: Tensor, swap: bool) -> tuple[Tensor, Tensor]:
    """The half that is kept and the half that is changed."""
    first, second = h.chunk(2, dim=3)
    return (second, first) if swap else (first, second)


def _whole(kept: Tensor, changed: Tensor, swap: bool) -> Tensor:
    return torch.cat((changed, kept) if swap else (kept, changed), dim=3)


def _latent(step: Step, z: Tensor) -> Tensor:
    """The part of latents (N, D) that a split left, as a map."""
    channels, height, width = step.shape
    shape = (channels - step.keep, height, width)
    return z[:, step.offset : step.offset + math.prod(shape)].reshape(len(z), *shape).permute(0, 2, 3, 1)


def _convolved(x: Tensor, convolution: Convolution) -> Tensor:
    x = conv2d(x, convolution.weight, convolution.bias, padding=convolution.pad)
    if convolution.relu:
        x = x.relu_() if convolution.most is None else x.clamp_(0.0, convolution.most)
    return pixel_shuffle(x, 2) if convolution.shuffle else x
