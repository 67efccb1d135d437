"""How much an operator can enlarge an image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowprior.operators.base import Operator
from flowprior.randomness import keyed_rows

#: Of the power iteration.
_POWER_STEPS = 50


def squared_norm(operator: Operator, like: Tensor) -> float:
    """||A||^2, the square of the largest singular value, or a little less; 0 of an operator that shows nothing.

    Args:
        operator: A.
        like: of the type and on the device on which it is to be asked.
    """
    start = keyed_rows(torch.randn, operator.shape, [("curvature",)]).to(like)
    with torch.no_grad():
        return largest_eigenvalue(lambda x: operator.A_adjoint(operator.A(x)), start)


def largest_eigenvalue(apply: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """The largest eigenvalue, or a little less, of a symmetric map without negative ones, by power iteration.

    Args:
        apply: the map, of (1, ...).
        start: a vector (1, ...) that is not zero.

    Example:
        >>> round(largest_eigenvalue(lambda v: v * torch.tensor([[1.0, 3.0]]), torch.ones(1, 2)), 4)
        3.0
    """
    vector, value = start / start.norm(), 0.0
    for _ in range(_POWER_STEPS):
        image = apply(vector)
        value = float(image.norm())
        if value == 0:
            break
        vector = image / value
    return value
