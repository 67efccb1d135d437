"""The plain programs that flowprior is compared with: torch's layers, autograd and Adam, as one writes them first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowprior.models.flows.base import Evaluator, standard_normal_log_prob
from flowprior.operators.base import Operator
from flowprior.randomness import keyed_rows

#: From iterates (N, ...) to one loss per row (N,).
Objective = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Descent:
    """What a plain search leaves: the losses of its first step (N,), the last iterates, and its seconds."""

    first_loss: Tensor
    last: Tensor
    seconds: float


def latent_objective(flow: Evaluator, operator: Operator, y: Tensor, alpha: float) -> Objective:
    """Eq. 4 of Chávez 2021 on values in [-1, 1]: ||A G(z) - y||_1 + alpha (log_det - log p_Z(z))."""

    def objective(z: Tensor) -> Tensor:
        images, log_det = flow.inverse(z)
        residual = 2.0 * (operator.A(images) - y).flatten(1)
        return residual.abs().sum(1) + alpha * (log_det - standard_normal_log_prob(z))

    return objective


def image_objective(flow: Evaluator, operator: Operator, y: Tensor, noise_std: float) -> Objective:
    """The objective of `map`: ||A x - y||^2 / (2 sigma^2) - log p(x)."""

    def objective(x: Tensor) -> Tensor:
        return 0.5 / noise_std**2 * (operator.A(x) - y).square().flatten(1).sum(1) - flow.log_prob(x)

    return objective


def latent_start(dimensions: int, keys: Iterable[str], seed: int = 0, std: float = 0.1) -> Tensor:
    """The first latents that `solve("chavez", ...)` draws for these images."""
    return std * keyed_rows(torch.randn, (dimensions,), [(seed, key, "start", 0) for key in keys])


def descend(
    objective: Objective,
    start: Tensor,
    steps: int,
    rate: float,
    observe: Callable[[int, float, Tensor], None] | None = None,
) -> Descent:
    """Adam at a constant rate on all rows. Weights that are left trainable gather gradients in `.grad`, too.

    Args:
        objective: from iterates to losses.
        start: first iterates.
        steps: how many.
        rate: Adam's.
        observe: called with step, seconds so far and iterates after each step; its time does not count.
    """
    variable = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([variable], lr=rate)
    first: Tensor | None = None
    paused, started = 0.0, time.perf_counter()
    for step in range(steps):
        optimiser.zero_grad()
        loss = objective(variable)
        if first is None:
            first = loss.detach()
        loss.sum().backward()
        optimiser.step()
        if observe is not None:
            _wait_for(variable)
            pause = time.perf_counter()
            observe(step + 1, pause - started - paused, variable.detach())
            paused += time.perf_counter() - pause
    assert first is not None
    _wait_for(variable)
    return Descent(first, variable.detach(), time.perf_counter() - started - paused)


def _wait_for(values: Tensor) -> None:
    """Until values are computed: a GPU's clock is to show what is done, not what is queued. A copy waits."""
    values.detach().flatten()[:1].cpu()


def maximise_likelihood(
    log_prob: Callable[[Tensor], Tensor], parameters: Iterable[nn.Parameter], batches: Iterable[Tensor], rate: float
) -> float:
    """One step of Adam for each batch; returns the mean of -log p(x) over all of them, in nats per image."""
    optimiser = torch.optim.Adam(parameters, lr=rate)
    losses = []
    for images in batches:
        optimiser.zero_grad()
        loss = -log_prob(images).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())
