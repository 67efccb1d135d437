"""Conjugate gradients on many right-hand sides at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor], values: Tensor, tolerance: float = 1e-10, steps: int = 500
) -> Tensor:
    """K^-1 of each row, by products with K alone, every row by itself.

    Args:
        apply: K, symmetric and positive definite, of rows (n, M).
        values: right-hand sides (n, M).
        tolerance: of a residual's length, as a part of its right-hand side's.
        steps: at most.

    Example:
        >>> conjugate_gradients(lambda rows: rows * torch.tensor([1.0, 4.0]), torch.tensor([[2.0, 2.0]]))
        tensor([[2.0000, 0.5000]])
    """
    solution = torch.zeros_like(values)
    residual, direction = values.clone(), values.clone()
    length = residual.square().sum(1, keepdim=True)
    enough = tolerance**2 * length
    for _ in range(steps):
        going = length > enough
        if not bool(going.any()):
            break
        image = apply(direction)
        curvature = (direction * image).sum(1, keepdim=True)
        # A row that is done stands still; so would one without curvature, which K has not.
        rate = torch.where(going, length / curvature.clamp(min=torch.finfo(values.dtype).tiny), 0.0)
        solution = solution + rate * direction
        residual = residual - rate * image
        following = residual.square().sum(1, keepdim=True)
        direction = torch.where(going, residual + following / length.clamp(min=1e-300) * direction, direction)
        length = torch.where(going, following, length)
    return solution
