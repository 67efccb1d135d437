"""Gradients through bijections that keep nothing but their last output: the way there is computed backwards from it.

Autograd keeps what every step of a flow has computed until its gradient is asked. A bijection can do without: its
input follows from its output, so that one step after the other is undone, computed once more and differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from flowprior.models.flows.once import once

_INSTEAD = "set memory: plain for it"


class Traced(NamedTuple):
    """Where a pass was, and the gradient by that.

    Attributes:
        values: a map (N, ...).
        gradient: by these values.
        by_log_det: by the log-determinant (N,); the same all the way.
    """

    values: Tensor
    gradient: Tensor
    by_log_det: Tensor


class Gradients:
    """Gradients by weights, added up: layers can share them.

    Args:
        wanted: the weights.
    """

    def __init__(self, wanted: Iterable[nn.Parameter]) -> None:
        self._found: dict[int, Tensor | None] = dict.fromkeys(map(id, wanted))

    def wanted_of(self, module: nn.Module) -> list[nn.Parameter]:
        """Those of a module's weights that are wanted."""
        return [weight for weight in module.parameters() if id(weight) in self._found]

    def add(self, weights: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
        """Add gradients of these weights; None is none."""
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                before = self._found[id(weight)]
                self._found[id(weight)] = gradient if before is None else before + gradient

    def of(self, weight: nn.Parameter) -> Tensor | None:
        """What was found of a weight."""
        return self._found.get(id(weight))


class Retraceable(Protocol):
    """A bijection, or several, whose passes can be gone back."""

    def __call__(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """As `Bijection.forward`."""

    def inverse(self, z: Tensor, /) -> tuple[Tensor, Tensor]:
        """As `Bijection.inverse`."""

    def retrace(self, end: Traced, back: bool, gradients: Gradients) -> Traced:
        """As `Bijection.retrace`."""


def retraced(
    part: Retraceable, values: Tensor, back: bool, weights: Sequence[nn.Parameter], who: str
) -> tuple[Tensor, Tensor]:
    """A pass whose gradient is computed from its output alone; there is no second one.

    Args:
        part: what is passed.
        values: its input.
        back: in the inverse direction.
        weights: that have a gradient; they must not change before it is taken.
        who: for messages.
    """
    output: tuple[Tensor, Tensor] = _Retraced.apply(part, back, who, values, *weights)
    return output


def differentiated(
    outputs: Sequence[Tensor], by_outputs: Sequence[Tensor], start: Tensor, weights: Sequence[nn.Parameter]
) -> tuple[Tensor, Sequence[Tensor | None]]:
    """Gradients by a start and by weights; zero where nothing depends on the start."""
    pairs = [pair for pair in zip(outputs, by_outputs, strict=True) if pair[0].requires_grad]
    if not pairs:
        return torch.zeros_like(start), [None] * len(weights)
    ends, by_ends = zip(*pairs, strict=True)
    by_start, *by_weights = torch.autograd.grad(ends, [start, *weights], by_ends, allow_unused=True)
    return torch.zeros_like(start) if by_start is None else by_start, by_weights


def retraced_coupling(
    scale_shift: Callable[[Tensor], tuple[Tensor | None, Tensor]],
    kept: Tensor,
    changed: Traced,
    back: bool,
    weights: Sequence[nn.Parameter],
) -> tuple[Traced, Tensor, Sequence[Tensor | None]]:
    """Back through changed * exp(s) + t, or its inverse: the network is asked once, for the values and the gradient.

    Args:
        scale_shift: log-scale s, None where volume is kept, and shift t, of the kept half.
        kept: the kept half.
        changed: the other half, at the end of the pass.
        back: the pass was in the inverse direction.
        weights: of the network.

    Returns:
        The other half at the start, the gradient by the kept half that came by way of s and t, those by the weights.
    """
    with torch.enable_grad():
        leaf = kept.detach().requires_grad_(True)
        log_scale, shift = scale_shift(leaf)
    end, gradient, by_log_det = changed
    t = shift.detach()
    if log_scale is None:
        start, by_start = (end + t if back else end - t), gradient
        ends, by_ends = [shift], [-gradient if back else gradient]
    else:
        s = log_scale.detach()
        by_s = by_log_det.reshape(-1, *[1] * (kept.ndim - 1))
        if back:
            start, by_start = end * s.exp() + t, gradient * (-s).exp()
            by_ends = [-(gradient * end) - by_s, -by_start]
        else:
            moved = end - t
            start, by_start = moved * (-s).exp(), gradient * s.exp()
            by_ends = [gradient * moved + by_s, gradient]
        ends = [log_scale, shift]
    by_kept, by_weights = differentiated(ends, by_ends, leaf, weights)
    return Traced(start, by_start, by_log_det), by_kept, by_weights


class _Retraced(torch.autograd.Function):
    """A pass, its output being all that is kept."""

    @staticmethod
    def forward(
        ctx: Any, part: Retraceable, back: bool, who: str, values: Tensor, *weights: nn.Parameter
    ) -> tuple[Tensor, Tensor]:
        ctx.part, ctx.back, ctx.who, ctx.weights = part, back, who, weights
        # Not kept, so autograd does not see whether they have changed.
        ctx.versions = [weight._version for weight in weights]
        device = values.device.type
        ctx.cast = (device, torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None
        with _casting(ctx.cast, device):
            result, log_det = part.inverse(values) if back else part(values)
        ctx.save_for_backward(result)
        return result, log_det

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        (result,) = ctx.saved_tensors
        by_result, by_log_det = gradients
        if [weight._version for weight in ctx.weights] != ctx.versions:
            raise RuntimeError(f"weights of {ctx.who} have changed since the pass; take its gradient before")
        wanted = [weight for weight, needed in zip(ctx.weights, ctx.needs_input_grad[4:], strict=True) if needed]
        found = Gradients(wanted)
        with torch.no_grad(), _casting(ctx.cast, result.device.type):
            start = ctx.part.retrace(Traced(result, by_result, by_log_det), ctx.back, found)

        def last(gradient: Tensor | None) -> Tensor | None:
            # The result leads to what it was computed from: values and weights.
            causes = (result, by_result, by_log_det)
            return None if gradient is None else once(gradient, ctx.who, *causes, instead=_INSTEAD)

        return None, None, None, last(start.gradient), *(last(found.of(weight)) for weight in ctx.weights)


def _casting(cast: tuple[str, torch.dtype] | None, device: str) -> torch.autocast:
    """Half precision as it was in the pass.

    Without the cache of weights in half precision: those made without gradient would be found when one is wanted.
    """
    if cast is None:
        return torch.autocast(device, enabled=False)
    return torch.autocast(cast[0], cast[1], cache_enabled=False)
