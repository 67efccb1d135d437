"""Adam on many small problems at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowprior.optim.problem import PASSES, PATIENCE, Rows, Searched, SearchSettings, Stage, Terms, finite_rows
from flowprior.optim.recorder import Recorder

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_ALL = slice(None)


def adam(stage: Stage, start: Tensor, settings: SearchSettings, recorder: Recorder) -> Searched:
    """Adam on all rows together, at most `stage.steps` steps; moments are per value, so no row sees another.

    A row has converged when ten more steps at the peak rate would gain, to first order, no more than the tolerance's
    part of its loss. Unlike what the last steps gained, this neither takes the decay of the rate for the end of the
    search nor a first overshoot. With a tolerance, rows that have converged leave the batch.

    Args:
        stage: the objective and how many steps.
        start: first iterates (N, ...).
        settings: tolerance, rate and schedule, which goes on over all stages.
        recorder: takes the trace.
    """
    objective = stage.objective
    # Everything in place: of many rows, fresh memory for each intermediate takes longer than what is done in it.
    variable, safe = start.detach().clone(), start.detach().clone()
    first, second, room = torch.zeros_like(variable), torch.zeros_like(variable), torch.empty_like(variable)
    alive = torch.ones(len(start), dtype=torch.bool, device=start.device)
    converged, spent = ~alive, torch.zeros(len(start), device=start.device)
    left: _Left | None = None
    rows: Rows = _ALL
    step = 0
    for step in range(stage.steps + 1):
        last = step == stage.steps
        iterate = variable.detach().requires_grad_(not last)
        terms = objective(iterate, rows)
        finite = torch.isfinite(terms.loss) & finite_rows(terms.images)
        if not last:
            (gradient,) = torch.autograd.grad(terms.loss.sum(), iterate)
            finite &= finite_rows(gradient)
        # Without asking whether any row broke: the answer would make every step wait for a GPU.
        alive = alive & finite
        spent[rows] += alive * (1 if last else PASSES)
        if recorder.wants(step):
            recorder.record(step, left.with_(terms, rows) if left else terms)
        kept = alive.reshape(-1, *[1] * (start.ndim - 1))
        torch.where(kept, variable, safe, out=variable)
        if last:
            break
        safe.copy_(variable)
        # Rows that stand still add nothing to moments, so that these stay finite.
        gradient = torch.where(kept, gradient, 0.0)
        first.lerp_(gradient, 1 - _BETA1)
        second.lerp_(torch.mul(gradient, gradient, out=room), 1 - _BETA2)
        denominator = torch.div(second, 1 - _BETA2 ** (step + 1), out=room).sqrt_().add_(_EPSILON)
        unit = settings.learning_rate / (1 - _BETA1 ** (step + 1))
        if (step + 1) % PATIENCE == 0 or step + 1 == stage.steps:
            ahead = PATIENCE * unit / (1 - _BETA1 ** (step + 1)) * (first.square() / denominator).flatten(1).sum(1)
            done = alive & (ahead <= settings.judged * terms.loss.detach().abs())
            converged[rows] = done
            # A row that broke has nothing to gain either.
            leaving = (done | ~alive) if settings.tolerance else torch.zeros_like(done)
            if bool(leaving.any()):
                left = left or _Left.of(variable, terms, alive)
                left.take(variable, terms, alive, rows)
                stay = ~leaving
                rows = stay.nonzero()[:, 0] if isinstance(rows, slice) else rows[stay]
                if not len(rows):
                    break
                variable, safe, first, second = (entry[stay] for entry in (variable, safe, first, second))
                gradient, denominator, kept, alive = gradient[stay], denominator[stay], kept[stay], alive[stay]
                room = torch.empty_like(variable)
        scale = unit * _decay(settings, recorder.before + step)
        variable.addcdiv_(torch.mul(first, kept, out=gradient), denominator, value=-scale)
        recorder.progress(step + 1)
    images = terms.images.detach()
    nobody = not isinstance(rows, slice) and not len(rows)
    if not nobody and not bool(alive.all()):
        with torch.no_grad():
            images = torch.where(alive.reshape(-1, 1, 1, 1), images, objective(variable, rows).images)
    if left is None:
        return Searched(variable, images, alive, converged, spent, stage.steps)
    if not nobody:
        left.take(variable, terms._replace(images=images), alive, rows)
    recorder.record(step, left.terms)
    recorder.progress(stage.steps)
    whole = left.terms.images
    if not bool(left.alive.all()):
        with torch.no_grad():
            whole = torch.where(left.alive.reshape(-1, 1, 1, 1), whole, objective(left.iterates, _ALL).images)
    return Searched(left.iterates, whole, left.alive, converged, spent, step)


class _Left:
    """All rows as they last were, of a batch that some have left."""

    def __init__(self, iterates: Tensor, terms: Terms, alive: Tensor) -> None:
        self.iterates, self.terms, self.alive = iterates, terms, alive

    @classmethod
    def of(cls, iterates: Tensor, terms: Terms, alive: Tensor) -> _Left:
        """From a batch that is still whole."""
        return cls(iterates.clone(), Terms(*(entry.detach().clone() for entry in terms)), alive.clone())

    def take(self, iterates: Tensor, terms: Terms, alive: Tensor, rows: Rows) -> None:
        """Some rows as they are now."""
        self.iterates[rows], self.alive[rows] = iterates, alive
        self.with_(terms, rows)

    def with_(self, terms: Terms, rows: Rows) -> Terms:
        """All rows' terms, some of them as they are now."""
        for whole, part in zip(self.terms, terms, strict=True):
            whole[rows] = part.detach()
        return self.terms


def _decay(settings: SearchSettings, step: int) -> float:
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * step / settings.steps))
