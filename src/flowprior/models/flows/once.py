"""Gradients that have no gradient of their own: asked for one, they say so instead of passing for constants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowprior.errors import FlowpriorError


class SecondDerivativeError(FlowpriorError, RuntimeError):
    """A second derivative of something that has only a first."""


def once(
    gradient: Tensor, who: str, *causes: Tensor | None, instead: str = "ask the flow itself, a torch module, for it"
) -> Tensor:
    """A gradient as a backward pass returns it: with `create_graph`, its own gradient is refused.

    `torch.autograd.function.once_differentiable` does not do: where the gradient that comes in is a constant, it
    leaves out what the gradient owes to the point at which it was taken, and a second derivative lacks that part.

    Args:
        gradient: the gradient.
        who: what has no second derivative, for the message.
        causes: all that it depends on: the point, and the gradients that came in.
        instead: where there is one, for the message.
    """
    said = f"{who} has no second derivative; {instead}"
    return _Once.apply(gradient, said, *causes) if torch.is_grad_enabled() else gradient


class _Once(torch.autograd.Function):
    """The identity on a gradient, as a function of what that depends on."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, said: str, *causes: Tensor | None) -> Tensor:
        ctx.said = said
        return gradient.detach().clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:  # type: ignore[override]
        raise SecondDerivativeError(ctx.said)
