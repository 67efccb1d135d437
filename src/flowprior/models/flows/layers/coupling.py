"""Coupling layers: one half of the channels sets scale and shift of the other half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from flowprior.models.flows.layers.bijection import Bijection
from flowprior.models.flows.layers.retracing import Gradients, Traced, retraced_coupling

#: From the network's output (N, 2C, H, W) to (log_scale, shift), both (N, C, H, W).
ScaleShift = Callable[[Tensor], tuple[Tensor, Tensor]]


def sigmoid_affine(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Scale sigmoid(s + 2), which never grows volume (Glow's program; Eq. 7 of Chávez 2021).

    Scales come from even, shifts from odd channels.
    """
    return logsigmoid(raw[:, 0::2] + 2.0), raw[:, 1::2]


@dataclass(frozen=True)
class SigmoidAffine:
    """Scale sigmoid(s + 2) + bias, s held in [-limit, limit]: bounded from below, and so is the way back.

    The network's answers are bounded, not the map's values: the coupling stays a bijection.

    Attributes:
        bias: added to the scale.
        limit: of s; None: it has none.
    """

    bias: float = 0.0
    limit: float | None = None

    def __call__(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """As `sigmoid_affine`."""
        scales, shift = raw[:, 0::2], raw[:, 1::2]
        return self.log_scale(scales), shift

    def log_scale(self, scales: Tensor) -> Tensor:
        """Of s."""
        if self.limit is not None:
            scales = scales.clamp(-self.limit, self.limit)
        log_scale = logsigmoid(scales + 2.0)
        return (log_scale.exp() + self.bias).log() if self.bias else log_scale


def tanh_affine(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Log-scale 1.5 tanh(s): bounded both ways, identity at 0, stable far from the data."""
    log_scale, shift = raw.chunk(2, dim=1)
    return 1.5 * torch.tanh(log_scale), shift


def additive(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Shift alone: volume is kept (NICE; the flow of Oberlin & Verm 2021)."""
    return torch.zeros_like(raw), raw


class Coupling(Bijection):
    """h_c = h_p * s + t with (s, t) = network(h_k); h_k passes through (Eq. 5 to 9 of Chávez 2021).

    Args:
        network: maps the kept half (N, C/2, H, W) to what `scale_shift` reads.
        scale_shift: how the network's output becomes log-scale and shift.
        swap: keep the second half and change the first, instead of the other way round.
    """

    def __init__(self, network: nn.Module, scale_shift: ScaleShift, swap: bool = False) -> None:
        super().__init__()
        self.network = network
        self.scale_shift = scale_shift
        self.swap = swap

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift one half by what the other says."""
        kept, changed = self._halves(x)
        log_scale, shift = self._scale_shift(kept)
        changed = changed * log_scale.exp() + shift
        return self._join(kept, changed), log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it: the kept half is unchanged, so scale and shift are known."""
        kept, changed = self._halves(z)
        log_scale, shift = self._scale_shift(kept)
        changed = (changed - shift) * (-log_scale).exp()
        return self._join(kept, changed), -log_scale.flatten(1).sum(1)

    def retrace(self, end: Traced, back: bool, gradients: Gradients) -> Traced:
        """As `Bijection.retrace`, asking the network once and not twice."""
        if not self._is_plainly(Coupling):
            return super().retrace(end, back, gradients)
        kept, changed = self._halves(end.values)
        by_kept, by_changed = self._halves(end.gradient)
        weights = gradients.wanted_of(self)
        start, more, by_weights = retraced_coupling(
            self._scale_shift, kept, Traced(changed, by_changed, end.by_log_det), back, weights
        )
        gradients.add(weights, by_weights)
        return Traced(self._join(kept, start.values), self._join(by_kept + more, start.gradient), end.by_log_det)

    def _scale_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        # Under autocast the network answers in half precision; arithmetic and log-determinants do not.
        return self.scale_shift(self.network(kept).to(kept.dtype))

    def _halves(self, h: Tensor) -> tuple[Tensor, Tensor]:
        first, second = h.chunk(2, dim=1)
        return (second, first) if self.swap else (first, second)

    def _join(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.cat((changed, kept) if self.swap else (kept, changed), dim=1)
