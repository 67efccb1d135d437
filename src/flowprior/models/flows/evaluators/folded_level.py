"""The folded steps of one level, run by torch on maps (N, H, W, C)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pixel_shuffle

from flowprior.models.flows.evaluators.networks import Convolution
from flowprior.models.flows.evaluators.program import Step
from flowprior.models.flows.layers import SigmoidAffine
from flowprior.models.flows.layers.retracing import Gradients, Traced, retraced, retraced_coupling


class Affine(NamedTuple):
    """Matrices (C, C) and shifts (C,) of an affine step and of its inverse, for pixels as rows: x @ matrix + shift."""

    matrix: Tensor
    shift: Tensor
    inverse_matrix: Tensor
    inverse_shift: Tensor


class FoldedLevel:
    """Squeeze, affine and coupling steps, with weights that have no gradient.

    Args:
        steps: with the constants of those that are affine.
        network_dtype: of the convolutions inside couplings.
    """

    def __init__(self, steps: tuple[tuple[Step, Affine | None], ...], network_dtype: torch.dtype) -> None:
        self._steps = steps
        self._network_dtype = network_dtype

    def __call__(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Forward: the map, and the log-determinant that depends on it."""
        total = h.new_zeros(len(h))
        for step, affine in self._steps:
            if affine is not None:
                h = _at_every_pixel(h, affine.matrix, affine.shift)
            elif step.kind == "squeeze":
                h = _squeezed(h)
            else:
                kept, changed = _halves(h, step.swap)
                log_scale, shift = self._scale_shift(step, kept)
                if log_scale is None:
                    changed = changed + shift
                else:
                    changed = torch.addcmul(shift, changed, log_scale.exp())
                    total = total + log_scale.sum((1, 2, 3))
                h = _whole(kept, changed, step.swap)
        return h, total

    def inverse(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The other way."""
        total = h.new_zeros(len(h))
        for step, affine in reversed(self._steps):
            if affine is not None:
                h = _at_every_pixel(h, affine.inverse_matrix, affine.inverse_shift)
            elif step.kind == "squeeze":
                h = _spread(h)
            else:
                kept, changed = _halves(h, step.swap)
                log_scale, shift = self._scale_shift(step, kept)
                changed = changed - shift
                if log_scale is not None:
                    changed = changed * (-log_scale).exp()
                    total = total - log_scale.sum((1, 2, 3))
                h = _whole(kept, changed, step.swap)
        return h, total

    def through(self, h: Tensor, back: bool, who: str | None) -> tuple[Tensor, Tensor]:
        """A direction; with gradients from its output alone where somebody is named who has them."""
        if who is not None and torch.is_grad_enabled() and h.requires_grad:
            return retraced(self, h, back, (), who)
        return self.inverse(h) if back else self(h)

    def retrace(self, end: Traced, back: bool, gradients: Gradients) -> Traced:
        """As `Bijection.retrace`."""
        for step, affine in self._steps if back else reversed(self._steps):
            end = self._retraced(step, affine, end, back)
        return end

    def _retraced(self, step: Step, affine: Affine | None, end: Traced, back: bool) -> Traced:
        values, gradient, by_log_det = end
        if affine is not None:
            there, again = affine[:2], affine[2:]
            matrix, shift, used = (*there, again[0]) if back else (*again, there[0])
            return Traced(_at_every_pixel(values, matrix, shift), gradient @ used.t(), by_log_det)
        if step.kind == "squeeze":
            move = _squeezed if back else _spread
            return Traced(move(values), move(gradient), by_log_det)
        kept, changed = _halves(values, step.swap)
        by_kept, by_changed = _halves(gradient, step.swap)
        start, more, _ = retraced_coupling(
            lambda kept: self._scale_shift(step, kept), kept, Traced(changed, by_changed, by_log_det), back, ()
        )
        whole = _whole(by_kept + more, start.gradient, step.swap)
        return Traced(_whole(kept, start.values, step.swap), whole, by_log_det)

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


def _convolved(x: Tensor, convolution: Convolution) -> Tensor:
    x = conv2d(x, convolution.weight, convolution.bias, padding=convolution.pad)
    if convolution.relu:
        x = x.relu_() if convolution.most is None else x.clamp_(0.0, convolution.most)
    return pixel_shuffle(x, 2) if convolution.shuffle else x
