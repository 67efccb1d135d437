"""Adam on many small problems at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowprior.solvers.search import Recorder, Searched, SearchSettings
from flowprior.solvers.stages import Stage

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
    variable, safe = start.clone(), start.clone()
    first, second = torch.zeros_like(start), torch.zeros_like(start)
    alive = torch.ones(count, dtype=torch.bool, device=start.device)
    spent = torch.zeros(count, device=start.device)
    for step in range(stage.steps + 1):
        last = step == stage.steps
        variable.requires_grad_(not last)
        terms = objective(variable, _ALL)
        finite = torch.isfinite(terms.loss) & torch.isfinite(terms.images).flatten(1).all(1)
        if not last:
            (gradient,) = torch.autograd.grad(terms.loss.sum(), variable)
            finite &= torch.isfinite(gradient).flatten(1).all(1)
        variable = variable.detach()
        # Without asking whether any row broke: the answer would make every step wait for a GPU.
        alive = alive & finite
        variable = torch.where(alive.reshape(rows), variable, safe)
        spent += alive
        if recorder.wants(step):
            recorder.record(step, terms)
        if last:
            break
        safe = variable
        first = torch.lerp(first, gradient, 1 - _BETA1)
        second = torch.lerp(second, gradient.square(), 1 - _BETA2)
        scale = settings.learning_rate * _decay(settings, stage.before + step) / (1 - _BETA1 ** (step + 1))
        denominator = (second / (1 - _BETA2 ** (step + 1))).sqrt_().add_(_EPSILON)
        # Frozen rows keep their place; where() instead of a product, because their moments may hold NaN.
        variable = torch.where(alive.reshape(rows), torch.addcdiv(variable, first, denominator, value=-scale), variable)
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
