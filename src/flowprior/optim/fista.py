"""Proximal gradient steps with momentum (FISTA, Beck & Teboulle 2009) on many small problems at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Proximal(NamedTuple):
    """A smooth term and one whose proximal map is known, per row.

    Attributes:
        gradient: of the smooth term at iterates (N, ...).
        prox: argmin over x of step * g(x) + ||x - v||^2 / 2, of v (N, ...) and a step.
        curvature: the largest eigenvalue of the smooth term's second derivative, or more.
    """

    gradient: Callable[[Tensor], Tensor]
    prox: Callable[[Tensor, float], Tensor]
    curvature: float


class Found(NamedTuple):
    """Where the steps came to: iterates (N, ...), whether each row converged (N,), and how many steps it took (N,)."""

    iterates: Tensor
    converged: Tensor
    steps: Tensor


def fista(
    problem: Proximal,
    start: Tensor,
    steps: int,
    shortest: float,
    seen: Callable[[int, Tensor], None] = lambda step, iterates: None,
) -> Found:
    """Minimise f + g from a start, every row by itself.

    A row's momentum begins anew where it leads uphill (O'Donoghue & Candès 2015, by the gradient), so that the steps
    converge as quickly as the problem lets them. A row stops where a step of it is shorter than `shortest`; it
    then stays as it is.

    Args:
        problem: gradient, proximal map and curvature.
        start: first iterates (N, ...).
        steps: at most.
        shortest: length of a step (Euclidean) below which a row has converged.
        seen: told of the iterates after each step, and of the start.
    """
    shape = (-1, *[1] * (start.ndim - 1))
    step_size = 1.0 / problem.curvature
    x, ahead = start.clone(), start.clone()
    momentum = torch.ones(len(start), dtype=start.dtype, device=start.device)
    done = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    taken = torch.zeros(len(start), device=start.device)
    seen(0, x)
    for step in range(1, steps + 1):
        moved = problem.prox(ahead - step_size * problem.gradient(ahead), step_size)
        change = moved - x
        uphill = ((ahead - moved) * change).flatten(1).sum(1) > 0
        following = torch.where(uphill, 1.0, (1 + (1 + 4 * momentum.square()).sqrt()) / 2)
        weight = torch.where(uphill, 0.0, (momentum - 1) / following)
        taken += ~done
        kept = done.reshape(shape)
        ahead = torch.where(kept, ahead, moved + weight.reshape(shape) * change)
        x = torch.where(kept, x, moved)
        momentum = following
        small = change.flatten(1).norm(dim=1) <= shortest
        # After a fresh start of the momentum a step may be short by chance: it does not count.
        done = done | (small & ~uphill)
        seen(step, x)
        if bool(done.all()):
            break
    return Found(x, done, taken)
