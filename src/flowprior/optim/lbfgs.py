"""L-BFGS on many small problems at once: history, line search and stop are each row's own.

One evaluation of the objective serves all rows that are still searching: some at the first trial of a line search,
some within it. Rows that are done leave the batch, so the last evaluations are of small batches.
`torch.optim.LBFGS` on a stacked batch would take all rows for one problem, with one step length.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowprior.optim.line_search import Line, advance, begin
from flowprior.optim.problem import PASSES, PATIENCE, Objective, Searched, SearchSettings, Stage, Terms, finite_rows
from flowprior.optim.recorder import Recorder

_ALL = slice(None)


class _Searching(NamedTuple):
    """The rows still searching, n of them; vectors are flat (n, D), scalars (n,) in float64."""

    rows: Tensor
    x: Tensor
    value: Tensor
    gradient: Tensor
    direction: Tensor
    slope: Tensor
    pairs: Tensor  # (n, 2, m, D): the last m accepted steps and the gradient's changes over them, in a ring
    newest: Tensor  # (n,): where in its ring a row's newest pair is
    past: Tensor  # (n, PATIENCE): the values before the last accepted steps, newest last
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
    alive = torch.isfinite(kept.loss) & finite_rows(gradient)
    spent = PASSES * alive.float()
    recorder.record(0, kept)
    converged = alive & (gradient.flatten(1).abs().amax(1) == 0)
    now = _first(start, kept.loss, gradient, settings).at(alive & (gradient.flatten(1).abs().amax(1) > 0))
    epsilon = 10 * torch.finfo(start.dtype).eps
    done = 0
    for done in range(1, stage.steps):
        if not len(now.rows):
            break
        trial = now.x + now.line.trial[:, None].to(now.x) * now.direction
        terms, gradient = _evaluate(objective, trial.reshape(-1, *start.shape[1:]), now.rows)
        gradient = gradient.flatten(1)
        spent[now.rows] += PASSES
        slope = _dot(gradient, now.direction)
        # Without its graph: a line goes on from the one before, and would keep what every step computed.
        loss = terms.loss.detach()
        line, accept, fail = advance(now.line, now.value, now.slope, loss.double(), slope, epsilon)
        now = now._replace(line=line)
        if bool(accept.any()):
            for whole, part in zip(kept, terms, strict=True):
                whole[now.rows[accept]] = part.detach()[accept]
            iterates[now.rows[accept]] = trial[accept].reshape(-1, *start.shape[1:])
            now = _moved(now, accept, trial, loss, gradient)
        # Nothing but steps into the non-finite: not the end of a search, but its failure.
        alive[now.rows[fail & now.line.undefined]] = False
        stop = fail | (accept & (now.past[:, 0] - now.value <= settings.tolerance * now.value.abs()))
        # What the quadratic model promises is -slope / 2: a search that finds nothing at a kink is still promised much.
        still = torch.where(fail, -now.slope / 2, now.past[:, 0] - now.value)
        converged[now.rows] = still <= settings.judged * now.value.abs()
        if bool(stop.any()):
            now = now.at(~stop)
        if recorder.wants(done):
            recorder.record(done, kept)
        recorder.progress(done)
    recorder.record(done, kept)
    recorder.progress(stage.steps)
    return Searched(iterates, kept.images, alive, converged, spent, int(spent.max()) // PASSES if len(spent) else 0)


def _evaluate(objective: Objective, x: Tensor, rows: Tensor | slice) -> tuple[Terms, Tensor]:
    x = x.detach().requires_grad_(True)
    terms = objective(x, rows)
    (gradient,) = torch.autograd.grad(terms.loss.sum(), x)
    return terms, gradient


def _first(start: Tensor, loss: Tensor, gradient: Tensor, settings: SearchSettings) -> _Searching:
    """Every row at its start, about to step against its gradient by `learning_rate` in the largest value."""
    count, flat = len(start), gradient.flatten(1)
    value, slope = loss.detach().double(), -_dot(flat, flat)
    pairs = flat.new_zeros(count, 2, settings.history, flat.shape[1])
    past = torch.full((count, PATIENCE), torch.inf, dtype=torch.float64, device=start.device)
    length = settings.learning_rate / flat.abs().amax(1).double().clamp_min(1e-30)
    rows = torch.arange(count, device=start.device)
    line = begin(length, value, slope)
    newest = torch.zeros_like(rows)
    return _Searching(rows, start.flatten(1), value, flat, -flat, slope, pairs, newest, past, line)


def _moved(now: _Searching, accept: Tensor, trial: Tensor, loss: Tensor, gradient: Tensor) -> _Searching:
    """Take the accepted trials, remember them, and begin the next line search there; the other rows stay."""
    every = bool(accept.all())
    places = accept.nonzero()[:, 0]
    new_x, new_gradient, value = trial[accept], gradient[accept], loss.detach().double()[accept]
    newest = (now.newest[places] + 1) % now.pairs.shape[2]
    now.pairs[places, 0, newest] = new_x - now.x[places]
    now.pairs[places, 1, newest] = new_gradient - now.gradient[places]
    if 2 * len(places) < len(now.rows):
        direction = -_inverse_hessian_times(new_gradient, now.pairs[places], newest)
    else:
        # To compute a direction for every row and drop some is less than to copy the others' pairs.
        whole = now.newest.index_copy(0, places, newest)
        direction = -_inverse_hessian_times(gradient, now.pairs, whole)[places]
    slope = _dot(direction, new_gradient)
    # Rounding can turn a direction upwards; the gradient itself never does.
    up = slope >= 0
    direction = torch.where(up[:, None], -new_gradient, direction)
    slope = torch.where(up, -_dot(new_gradient, new_gradient), slope)
    length = torch.where(up, now.line.trial[places], 1.0)
    past = torch.cat([now.past[places, 1:], now.value[places, None]], 1)
    line = begin(length, value, slope)
    moved = _Searching(now.rows[places], new_x, value, new_gradient, direction, slope, now.pairs, newest, past, line)
    if every:
        return moved
    for name in _VECTORS:
        if name != "pairs":
            getattr(now, name)[places] = getattr(moved, name)
    for whole, part in zip(now.line, line, strict=True):
        whole[places] = part
    return now


def _inverse_hessian_times(vector: Tensor, pairs: Tensor, newest: Tensor) -> Tensor:
    """The two-loop recursion (Nocedal & Wright 2006, algorithm 7.4); pairs that are all zero count for nothing.

    It runs on coefficients: everything in it is a sum of the vector and the pairs, and all inner products that it
    needs are those of the pairs with each other and with the vector: three matrix products per row with their sum.

    Args:
        vector: (n, D).
        pairs: (n, 2, m, D), steps and changes.
        newest: place of the newest pair (n,).
    """
    count, _, memory, _ = pairs.shape
    flat = pairs.flatten(1, 2)
    products = (flat @ flat.mT).double()
    by_vector = (flat @ vector[:, :, None])[:, :, 0].double()
    row = torch.arange(count, device=vector.device)
    places = [(newest - age) % memory for age in range(memory)]

    def dot(place: Tensor, own: Tensor, others: Tensor) -> Tensor:
        return own * by_vector[row, place] + (others * products[row, place]).sum(1)

    own, others = by_vector.new_ones(count), torch.zeros_like(by_vector)
    weights, parts = [], []
    for step in places:
        curvature = products[row, step, memory + step]
        weights.append(torch.where(curvature > 0, 1 / curvature, 0.0))
        parts.append(weights[-1] * dot(step, own, others))
        others[row, memory + step] -= parts[-1]
    length = products[row, memory + newest, memory + newest]
    scale = torch.where(length > 0, products[row, newest, memory + newest] / length, 1.0)
    own, others = own * scale, others * scale[:, None]
    for step, weight, part in zip(reversed(places), reversed(weights), reversed(parts), strict=True):
        others[row, step] += part - weight * dot(memory + step, own, others)
    return own[:, None].to(vector) * vector + (others[:, None].to(vector) @ flat)[:, 0]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products over the last axis, as float64."""
    return (a * b).sum(-1).double()
