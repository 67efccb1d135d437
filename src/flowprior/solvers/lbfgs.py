"""L-BFGS on many small problems at once: history, line search and stop are each row's own.

One evaluation of the objective serves all rows that are still searching: some at the first trial of a line search,
some within it. Rows that are done leave the batch, so the last evaluations are of small batches.
`torch.optim.LBFGS` on a stacked batch would take all rows for one problem, with one step length.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowprior.solvers.line_search import Line, advance, begin
from flowprior.solvers.search import Objective, Recorder, Searched, SearchSettings, Terms
from flowprior.solvers.stages import Stage

#: Accepted steps over which progress is judged.
_PATIENCE = 10
_ALL = slice(None)


class _Searching(NamedTuple):
    """The rows still searching, n of them; vectors are flat (n, D), scalars (n,) in float64."""

    rows: Tensor
    x: Tensor
    value: Tensor
    gradient: Tensor
    direction: Tensor
    slope: Tensor
    steps: Tensor  # (n, m, D): the last m accepted steps, newest last
    changes: Tensor  # (n, m, D): the gradient's changes over them
    past: Tensor  # (n, _PATIENCE): the values before the last accepted steps, newest last
    line: Line

    def at(self, keep: Tensor) -> _Searching:
        """Some of the rows."""
        line = Line(*(entry[keep] for entry in self.line))
        return self._replace(line=line, **{name: getattr(self, name)[keep] for name in _VECTORS})


_VECTORS = _Searching._fields[:-1]


def lbfgs(stage: Stage, start: Tensor, settings: SearchSettings, recorder: Recorder) -> Searched:
    """Minimise every row by itself, with at most `stage.steps` evaluations each.

    Args:
        stage: the objective, which is smooth, and how many evaluations.
        start: first iterates (N, ...).
        settings: history, tolerance and the length of the first step.
        recorder: takes the trace.
    """
    objective, iterates = stage.objective, start.detach().clone()
    terms, gradient = _evaluate(objective, start, _ALL)
    kept = Terms(*(entry.detach().clone() for entry in terms))
    alive = torch.isfinite(kept.loss) & torch.isfinite(gradient).flatten(1).all(1)
    spent = alive.float()
    recorder.record(0, kept)
    now = _first(start, kept.loss, gradient, settings).at(alive & (gradient.flatten(1).abs().amax(1) > 0))
    epsilon = 10 * torch.finfo(start.dtype).eps
    done = 0
    for done in range(1, stage.steps):
        if not len(now.rows):
            break
        trial = now.x + now.line.trial[:, None].to(now.x) * now.direction
        terms, gradient = _evaluate(objective, trial.reshape(-1, *start.shape[1:]), now.rows)
        gradient = gradient.flatten(1)
        spent[now.rows] += 1
        slope = _dot(gradient, now.direction)
        line, accept, fail = advance(now.line, now.value, now.slope, terms.loss.double(), slope, epsilon)
        now = now._replace(line=line)
        if bool(accept.any()):
            for whole, part in zip(kept, terms, strict=True):
                whole[now.rows[accept]] = part.detach()[accept]
            iterates[now.rows[accept]] = trial[accept].reshape(-1, *start.shape[1:])
            now = _moved(now, accept, trial, terms.loss, gradient)
        # Nothing but steps into the non-finite: not the end of a search, but its failure.
        alive[now.rows[fail & now.line.undefined]] = False
        stop = fail | (accept & (now.past[:, 0] - now.value <= settings.tolerance * now.value.abs()))
        if bool(stop.any()):
            now = now.at(~stop)
        if recorder.wants(done):
            recorder.record(done, kept)
        recorder.progress(done)
    recorder.record(done, kept)
    recorder.progress(stage.steps)
    return Searched(iterates, kept.images, alive, spent)


def _evaluate(objective: Objective, x: Tensor, rows: Tensor | slice) -> tuple[Terms, Tensor]:
    x = x.detach().requires_grad_(True)
    terms = objective(x, rows)
    (gradient,) = torch.autograd.grad(terms.loss.sum(), x)
    return terms, gradient


def _first(start: Tensor, loss: Tensor, gradient: Tensor, settings: SearchSettings) -> _Searching:
    """Every row at its start, about to step against its gradient by `learning_rate` in the largest value."""
    count, flat = len(start), gradient.flatten(1)
    value, slope = loss.detach().double(), -_dot(flat, flat)
    memory = flat.new_zeros(count, settings.history, flat.shape[1])
    past = torch.full((count, _PATIENCE), torch.inf, dtype=torch.float64, device=start.device)
    length = settings.learning_rate / flat.abs().amax(1).double().clamp_min(1e-30)
    rows = torch.arange(count, device=start.device)
    line = begin(length, value, slope)
    return _Searching(rows, start.flatten(1), value, flat, -flat, slope, memory, memory.clone(), past, line)


def _moved(now: _Searching, accept: Tensor, trial: Tensor, loss: Tensor, gradient: Tensor) -> _Searching:
    """Take the accepted trials, remember them, and begin the next line search there; the other rows stay."""
    old = now.at(accept)
    new_x, new_gradient, value = trial[accept], gradient[accept], loss.detach().double()[accept]
    steps = torch.cat([old.steps[:, 1:], (new_x - old.x)[:, None]], 1)
    changes = torch.cat([old.changes[:, 1:], (new_gradient - old.gradient)[:, None]], 1)
    direction = -_inverse_hessian_times(new_gradient, steps, changes)
    slope = _dot(direction, new_gradient)
    # Rounding can turn a direction upwards; the gradient itself never does.
    up = slope >= 0
    direction = torch.where(up[:, None], -new_gradient, direction)
    slope = torch.where(up, -_dot(new_gradient, new_gradient), slope)
    length = torch.where(up, old.line.trial, 1.0)
    past = torch.cat([old.past[:, 1:], old.value[:, None]], 1)
    line = begin(length, value, slope)
    moved = _Searching(old.rows, new_x, value, new_gradient, direction, slope, steps, changes, past, line)
    if bool(accept.all()):
        return moved
    for whole, part in zip((*now[:-1], *now.line), (*moved[:-1], *moved.line), strict=True):
        whole[accept] = part
    return now


def _inverse_hessian_times(vector: Tensor, steps: Tensor, changes: Tensor) -> Tensor:
    """The two-loop recursion (Nocedal & Wright 2006, algorithm 7.4); pairs that are all zero count for nothing."""
    curvature = _dot(steps, changes)
    weight = torch.where(curvature > 0, 1 / curvature, 0.0).to(vector)
    parts = []
    for i in reversed(range(steps.shape[1])):
        part = weight[:, i] * (steps[:, i] * vector).sum(1)
        vector = vector - part[:, None] * changes[:, i]
        parts.append(part)
    newest = _dot(changes[:, -1], changes[:, -1])
    scale = torch.where(newest > 0, curvature[:, -1] / newest, 1.0).to(vector)
    vector = vector * scale[:, None]
    for i, part in zip(range(steps.shape[1]), reversed(parts), strict=True):
        vector = vector + (part - weight[:, i] * (changes[:, i] * vector).sum(1))[:, None] * steps[:, i]
    return vector


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products over the last axis, as float64."""
    return (a * b).sum(-1).double()
