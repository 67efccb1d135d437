"""Adam on many small problems at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowprior.optim.search import Recorder, Searched, SearchSettings, Stage, finite_rows

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_ALL = slice(None)


def adam(stage: Stage, start: Tensor, settings: SearchSettings, recorder: Recorder) -> Searched:
    """A fixed number of steps on all rows together; moments are per value, so no row sees another.

    Args:
        stage: the objective and how many steps.
        start: first iterates (N, ...).
        settings: rate and schedule, which goes on over all stages.
        recorder: takes the trace.
    """
    objective = stage.objective
    count = len(start)
    rows = (count,) + (1,) * (start.ndim - 1)
    # Everything in place: of many rows, fresh memory for each intermediate takes longer than what is done in it.
    variable, safe = start.detach().clone(), start.detach().clone()
    first, second, room = torch.zeros_like(variable), torch.zeros_like(variable), torch.empty_like(variable)
    alive = torch.ones(count, dtype=torch.bool, device=start.device)
    spent = torch.zeros(count, device=start.device)
    for step in range(stage.steps + 1):
        last = step == stage.steps
        iterate = variable.detach().requires_grad_(not last)
        terms = objective(iterate, _ALL)
        finite = torch.isfinite(terms.loss) & finite_rows(terms.images)
        if not last:
            (gradient,) = torch.autograd.grad(terms.loss.sum(), iterate)
            finite &= finite_rows(gradient)
        # Without asking whether any row broke: the answer would make every step wait for a GPU.
        alive = alive & finite
        spent += alive
        if recorder.wants(step):
            recorder.record(step, terms)
        kept = alive.reshape(rows)
        torch.where(kept, variable, safe, out=variable)
        if last:
            break
        safe.copy_(variable)
        # Rows that stand still add nothing to moments, so that these stay finite.
        gradient = torch.where(kept, gradient, 0.0)
        first.lerp_(gradient, 1 - _BETA1)
        second.lerp_(torch.mul(gradient, gradient, out=room), 1 - _BETA2)
        scale = settings.learning_rate * _decay(settings, recorder.before + step) / (1 - _BETA1 ** (step + 1))
        denominator = torch.div(second, 1 - _BETA2 ** (step + 1), out=room).sqrt_().add_(_EPSILON)
        variable.addcdiv_(torch.mul(first, kept, out=gradient), denominator, value=-scale)
        recorder.progress(step + 1)
    images = terms.images
    if not bool(alive.all()):
        with torch.no_grad():
            images = torch.where(alive.reshape(count, 1, 1, 1), images, objective(variable, _ALL).images)
    return Searched(variable, images.detach(), alive, spent, stage.steps)


def _decay(settings: SearchSettings, step: int) -> float:
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * step / settings.steps))
