"""Optimisers on problems with known answers: every row its own problem, the same optimum as scipy, strong Wolfe."""

import gc
import weakref

import numpy as np
import pytest
import scipy.optimize
import torch
from pieces import small_flow, small_operator

from flowprior import solvers
from flowprior.optim.line_search import advance, begin
from flowprior.optim.problem import SearchSettings, Terms, finite_rows
from flowprior.optim.stages import stages_of
from flowprior.solvers.base import Context
from flowprior.solvers.searching import search

ROWS, SIZE = 16, 12


def ravine(x, shift):
    """Rosenbrock's function in `SIZE` dimensions, moved by `shift`; its minimum is 0 at 1 + shift."""
    x = x.flatten(1) - shift
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


def problems(dtype=torch.float64):
    shifts = torch.linspace(-1, 1, ROWS, dtype=dtype)[:, None]

    def objective(x, rows):
        loss = ravine(x, shifts[rows])
        return Terms(loss, loss, loss, x)

    start = torch.randn(ROWS, 1, 1, SIZE, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return objective, start, shifts


def settings(**changes):
    return SearchSettings(**{"optimiser": "lbfgs", "steps": 400, "tolerance": 1e-14, **changes})


def run(objective, start, **changes):
    ends = []
    context = Context(
        tuple(map(str, range(len(start)))), observer=lambda images: ends.append(images) or {"end": images[:, 0, 0, 0]}
    )
    chosen = settings(**changes)
    return search(stages_of(objective, chosen), start, chosen, context, finish=lambda x: x), ends


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_rows_together_are_rows_one_by_one(optimiser):
    objective, start, _ = problems()
    changes = {"optimiser": optimiser, "steps": 60, "learning_rate": 0.01}
    together, _ = run(objective, start, **changes)
    for i in range(ROWS):

        def alone(x, rows, i=i):
            return objective(x, [i])

        single, _ = run(alone, start[i : i + 1], **changes)
        assert single.passes[0] == together.passes[i]
        torch.testing.assert_close(single.trace.values["loss"][-1, 0], together.trace.values["loss"][-1, i])
        torch.testing.assert_close(single.images[0], together.images[i], rtol=0, atol=1e-7)


def test_lbfgs_reaches_scipys_optimum():
    objective, start, shifts = problems()
    found, _ = run(objective, start)
    for i in range(ROWS):

        def value(x, i=i):
            variable = torch.from_numpy(x)[None].requires_grad_(True)
            loss = ravine(variable, shifts[i]).sum()
            loss.backward()
            return loss.item(), variable.grad[0].numpy()

        scipys = scipy.optimize.minimize(
            value, start[i].flatten().numpy(), jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-15}
        )
        assert found.trace.values["loss"][-1, i].item() == pytest.approx(scipys.fun, abs=1e-6)
        # Rosenbrock's function has a second, local minimum; both methods go down the same valley.
        assert found.passes[i] <= 2 * 3 * scipys.nfev


def test_lbfgs_of_a_quadratic_ends_where_the_algebra_says():
    source = torch.Generator().manual_seed(1)
    factor = torch.randn(ROWS, SIZE, SIZE, generator=source, dtype=torch.float64)
    matrix = factor @ factor.mT + 0.1 * torch.eye(SIZE, dtype=torch.float64)
    right = torch.randn(ROWS, SIZE, generator=source, dtype=torch.float64)
    ends = {}

    def objective(x, rows):
        flat = x.flatten(1)
        loss = 0.5 * torch.einsum("ni,nij,nj->n", flat, matrix[rows], flat) - (right[rows] * flat).sum(1)
        ends.update(dict(zip(torch.arange(ROWS)[rows].tolist(), flat.detach(), strict=True)))
        return Terms(loss, loss, loss, x)

    run(objective, torch.zeros(ROWS, 1, 1, SIZE, dtype=torch.float64), history=SIZE)
    wanted = torch.linalg.solve(matrix, right)
    torch.testing.assert_close(torch.stack([ends[i] for i in range(ROWS)]), wanted, rtol=1e-4, atol=1e-4)


def test_rows_that_are_done_leave_the_batch():
    sizes = []
    objective, start, _ = problems()

    def counted(x, rows):
        sizes.append(len(x))
        return objective(x, rows)

    found, _ = run(counted, start, tolerance=1e-6)
    assert sizes[0] == ROWS and sizes[-1] < ROWS
    assert sizes == sorted(sizes, reverse=True)
    # Each evaluation has its gradient: forward and backward.
    assert 2 * sum(sizes) == int(found.passes.sum())
    assert found.passes.max() == 2 * len(sizes)


def test_one_stacked_problem_would_be_far_behind():
    """Why torch.optim.LBFGS does not do: one step length and one curvature for all."""
    objective, start, shifts = problems()
    found, _ = run(objective, start, steps=100)
    variable = start.clone().requires_grad_(True)
    stacked = torch.optim.LBFGS([variable], max_iter=100, max_eval=100, line_search_fn="strong_wolfe")

    def closure():
        stacked.zero_grad()
        loss = ravine(variable, shifts).sum()
        loss.backward()
        return loss

    stacked.step(closure)
    assert found.trace.values["loss"][-1].median() < 0.1 * ravine(variable.detach(), shifts).median()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_accepted_steps_meet_the_strong_wolfe_conditions(scale):
    """On functions of one variable with several bends, from first trials far too long and far too short."""
    source = torch.Generator().manual_seed(2)
    bend, wave = (torch.rand(64, generator=source, dtype=torch.float64) for _ in range(2))

    def value_and_slope(t):
        u = t / scale
        value = bend * u**2 - 3 * u + wave * torch.sin(4 * u) + 0.01 * u**4
        return value, (2 * bend * u - 3 + 4 * wave * torch.cos(4 * u) + 0.04 * u**3) / scale

    for first in (1e-3, 1.0, 30.0):
        value0, slope0 = value_and_slope(torch.zeros(64, dtype=torch.float64))
        falling = slope0 < -0.2 / scale
        line = begin(torch.full((64,), first * scale, dtype=torch.float64), value0, slope0)
        taken = torch.full((64,), torch.nan, dtype=torch.float64)
        for _ in range(20):
            at = line.trial
            value, slope = value_and_slope(at)
            line, accept, fail = advance(line, value0, slope0, value, slope, 1e-15)
            assert not bool((fail & falling & taken.isnan()).any())
            taken = torch.where(accept & taken.isnan(), at, taken)
        value, slope = value_and_slope(taken)
        assert bool((value <= value0 + 1e-4 * taken * slope0 + 1e-12)[falling].all())
        assert bool((slope.abs() <= -0.9 * slope0)[falling].all())


def test_steps_into_the_undefined_are_shortened():
    def objective(x, rows):
        # Defined for x > 0 alone; its minimum is at 1, and the first step leads to -9.
        loss = (x - x.log()).flatten(1).sum(1)
        return Terms(loss, loss, loss, x)

    start = torch.full((2, 1, 1, 1), 0.1, dtype=torch.float64)
    found, _ = run(objective, start, learning_rate=10.0)
    assert found.status == ("ok", "ok")
    torch.testing.assert_close(found.images, torch.ones_like(start), rtol=0, atol=1e-6)


def test_a_row_that_finds_nothing_finite_is_marked_and_the_others_go_on():
    def objective(x, rows):
        moved = (x.flatten(1) != 0.5).any(1)
        broken = (torch.arange(2)[rows] == 1) & moved
        loss = (x - 0.2).square().flatten(1).sum(1) + torch.where(broken, torch.nan, 0.0)
        return Terms(loss, loss, loss, x)

    found, _ = run(objective, torch.full((2, 1, 1, 1), 0.5, dtype=torch.float64))
    assert found.status == ("ok", "diverged")
    np.testing.assert_allclose(found.images.flatten().numpy(), [0.2, 0.5], atol=1e-6)


@pytest.mark.parametrize("solver", ["map", "chavez", "csgm", "glowip"])
def test_with_a_flow_lbfgs_gets_lower_than_adam_does_in_as_many_evaluations(solver):
    operator = small_operator("box_blur")
    flow = small_flow("haar_glow", dtype=torch.float32)
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    y = operator.measure(x, 0.02, torch.Generator().manual_seed(6))
    extra = {"smoothing": 0.001} if solver == "chavez" else {}
    ends = {}
    for optimiser, rate in (("adam", 0.02), ("lbfgs", 0.1)):
        result = solvers.solve(
            solver, operator, y, flow, optimiser=optimiser, steps=40, learning_rate=rate, tolerance=0.0, **extra
        )
        assert bool((result.passes <= 80).all()) or optimiser == "adam"
        ends[optimiser] = result.trace.values["loss"][-1]
    assert bool((ends["lbfgs"] < ends["adam"]).all()), ends


def test_which_rows_are_finite():
    values = torch.zeros(5, 2, 3)
    values[1, 0, 2], values[2, 1, 1], values[3, 0, 0], values[3, 0, 1] = torch.nan, torch.inf, torch.inf, -torch.inf
    values[4] = torch.finfo(torch.float32).max
    assert finite_rows(values).tolist() == [True, False, False, False, True]
    assert finite_rows(values[:0]).shape == (0,)


class _Saved:
    """What autograd keeps of one tensor, as long as its graph lives."""

    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_nothing_that_a_step_computed_outlives_the_next(optimiser):
    """A graph that hangs on what the search keeps would hold every step before it: memory would grow with them."""
    objective, start, _ = problems()
    saved = weakref.WeakSet()
    counts = []

    def pack(tensor):
        kept = _Saved(tensor)
        saved.add(kept)
        return kept

    def watched(x, rows):
        gc.collect()
        counts.append(len(saved))
        return objective(x, rows)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        run(watched, start, optimiser=optimiser, steps=40)
    assert len(counts) > 30 and max(counts[3:]) <= max(counts[:3]) + 1
