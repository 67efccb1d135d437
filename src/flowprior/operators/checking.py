"""What operators and solvers refuse to compute with: batches of another shape or type, values of another range."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from flowprior.errors import FlowpriorError

#: How far a picture may lie outside [0, 1]: noise of the largest size that is taken, 1, hardly ever reaches further.
FAR = 8.0


def check_batch(batch: Any, shape: tuple[int, ...], what: str) -> None:
    """Whether something is a batch of tensors (N, *shape) of floating point numbers.

    Args:
        batch: what was given.
        shape: wanted of each entry.
        what: its name in messages, "the measurement" or "images".

    Raises:
        FlowpriorError: it is no tensor, has no fractions, or has another shape; with the remedy.
    """
    if not isinstance(batch, Tensor):
        raise FlowpriorError(
            f"{what} must be a torch tensor, got {type(batch).__name__}; convert by torch.as_tensor(..., "
            "dtype=torch.float32)"
        )
    if not batch.is_floating_point():
        raise FlowpriorError(
            f"{what} must be of floating point numbers, got {batch.dtype}; divide values of 0 to 255 by 255"
        )
    if tuple(batch.shape[1:]) != tuple(shape) or batch.ndim == 0:
        wanted = ", ".join(map(str, shape))
        raise FlowpriorError(f"{what} must have shape (N, {wanted}), got {tuple(batch.shape)}; {_remedy(batch, shape)}")


def _remedy(batch: Tensor, shape: tuple[int, ...]) -> str:
    if tuple(batch.shape) == tuple(shape):
        return "of one alone give a batch: [None]"
    if batch.ndim == 4 and len(shape) == 3 and (batch.shape[3], *batch.shape[1:3]) == tuple(shape):
        return "channels come first: .permute(0, 3, 1, 2)"
    return "the operator was built for this shape: build it for yours, or measure with this one"


def check_range(pictures: Tensor, what: str) -> None:
    """Whether pictures (N, ...) lie about [0, 1]; what is no number is left to others.

    Raises:
        FlowpriorError: one lies far outside.
    """
    rows = pictures.detach().flatten(1)
    if rows.numel() == 0:
        return
    rows = torch.where(torch.isfinite(rows), rows, 0.0)
    low, high = float(rows.min()), float(rows.max())
    if low < -FAR or high > 1 + FAR:
        raise FlowpriorError(
            f"{what} must be of values in [0, 1] and their noise, got {low:.4g} to {high:.4g}; "
            "divide values of 0 to 255 by 255"
        )


def check_noise_std(noise_std: Any) -> float:
    """The standard deviation of noise as a number.

    Raises:
        FlowpriorError: it is none, negative, or not on values in [0, 1].
    """
    if isinstance(noise_std, bool) or not isinstance(noise_std, Real):
        raise FlowpriorError(f"noise_std must be one number, got {type(noise_std).__name__} {noise_std}; 25/255, say")
    value = float(noise_std)
    if not (math.isfinite(value) and value >= 0):
        raise FlowpriorError(f"noise_std must be at least 0, got {value:g}; 0 measures without noise")
    if value > 1:
        raise FlowpriorError(f"noise_std is on values in [0, 1], got {value:g}; of 0 to 255 that is {value:g}/255")
    return value
