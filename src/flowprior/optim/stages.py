"""A search in several stages: coarse latents first, and a data term that grows to its full weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.optim.problem import Objective, Rows, SearchSettings, Stage, Terms


def stages_of(objective: Objective, settings: SearchSettings, coarse: Sequence[tuple[int, int]] = ()) -> list[Stage]:
    """The stages that settings ask for: those of coarse latents, then `settings.stages` that share what steps are left.

    Args:
        objective: over flat latents (n, D) if there are coarse stages, else over anything.
        settings: steps, stages and the data term's first weight.
        coarse: (steps, first latent value that moves) of each stage of coarse latents.

    Raises:
        FlowpriorError: no step is left for a stage.
    """
    if settings.first_data_weight != 1 and settings.stages == 1 and not coarse:
        raise FlowpriorError(
            f"first_data_weight {settings.first_data_weight:g} needs a stage after the first; set 'stages' to 2 or more"
        )
    count, spent = settings.stages, sum(steps for steps, _ in coarse)
    left = settings.steps - spent
    if left < count:
        raise FlowpriorError(
            f"{settings.steps} steps are too few for {spent} steps on coarse latents and {count} stages after them; "
            f"raise 'steps' to {spent + count} or more"
        )
    first = settings.first_data_weight
    stages = [Stage(_from(_weighted(objective, first), begin), steps) for steps, begin in coarse]
    for number in range(count):
        steps = left * (number + 1) // count - left * number // count
        weight = first ** (1 - number / (count - 1)) if count > 1 else 1.0
        stages.append(Stage(_weighted(objective, weight), steps))
    return stages


def coarse_stages(sizes: Sequence[int], steps: int) -> list[tuple[int, int]]:
    """Stages over a flow's levels, the coarsest alone first, for all but the last, in which everything moves.

    Args:
        sizes: latent values of each level, finest first.
        steps: of each stage; 0: none.

    Example:
        >>> coarse_stages([9, 3, 0, 2], 10)  # a level without latents of its own has no stage
        [(10, 12), (10, 9)]
    """
    begins = sorted({sum(sizes[:level]) for level in range(1, len(sizes)) if sizes[level]} - {0}, reverse=True)
    return [(steps, begin) for begin in begins] if steps else []


def _weighted(objective: Objective, weight: float) -> Objective:
    """The objective with `weight` times its data term."""
    if weight == 1.0:
        return objective

    def weighted(x: Tensor, rows: Rows) -> Terms:
        terms = objective(x, rows)
        return terms._replace(loss=terms.loss + (weight - 1) * terms.data_fit)

    return weighted


def _from(objective: Objective, begin: int) -> Objective:
    """The objective without a gradient by values before `begin`, so that they stay where they are."""
    return lambda z, rows: objective(torch.cat([z[:, :begin].detach(), z[:, begin:]], 1), rows)
