"""Solvers with a convex penalty: against scikit-learn's coordinate descent, optimality, and known answers."""

import math

import numpy as np
import pytest
import torch
from pieces import small_operator
from sklearn.linear_model import Lasso

from flowprior import operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.operators.dct_sensing import dct_matrix
from flowprior.operators.norms import largest_eigenvalue, squared_norm
from flowprior.optim.fista import Proximal, fista
from flowprior.solvers.lasso import shrunk

SHAPE = (3, 8, 8)
EXACT = {"steps": 5000, "tolerance": 1e-5}


def problem(measurements=60, noise=0.01, dtype=torch.float64):
    operator = operators.build("gaussian_sensing", SHAPE, measurements=measurements)
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=dtype)
    return operator, operator.measure(x, noise, torch.Generator().manual_seed(2)).to(dtype)


def basis_of(name):
    """Columns: the images of which each has one coefficient."""
    identity = torch.eye(math.prod(SHAPE), dtype=torch.float64).reshape(-1, *SHAPE)
    if name == "lasso_dct":
        rows, columns = dct_matrix(8), dct_matrix(8)
        return (rows.T @ identity @ columns).flatten(1).T
    import pywt

    def back(one):
        parts, at, coarse = [], 3, one[:3].reshape(3, 1, 1)
        for side in (1, 2, 4):
            size = 3 * side * side
            parts.append(tuple(one[at + k * size : at + (k + 1) * size].reshape(3, side, side) for k in range(3)))
            at += 3 * size
        return pywt.waverec2([coarse, *parts], "db1", mode="periodization", axes=(-2, -1)).ravel()

    return torch.from_numpy(np.stack([back(one) for one in np.eye(math.prod(SHAPE))], axis=1))


@pytest.mark.parametrize("name", ["lasso_dct", "lasso_wavelet"])
def test_it_finds_what_coordinate_descent_finds(name):
    operator, y = problem()
    basis = basis_of(name)
    torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis), dtype=torch.float64))
    matrix = (operator.matrix() @ basis).numpy()
    found = solvers.solve(name, operator, y, alpha=0.05, **EXACT)
    for i in range(2):
        # scikit-learn's objective is 1 / (2 m) of ours, its alpha therefore that of ours as well.
        lasso = Lasso(alpha=0.05 / (2 * len(matrix)), fit_intercept=False, tol=1e-10, max_iter=100000)
        wanted = basis @ torch.from_numpy(lasso.fit(matrix, y[i].numpy()).coef_)
        torch.testing.assert_close(found.images[i].flatten(), wanted.clamp(0, 1), rtol=0, atol=3e-4)
    assert bool(found.converged.all()) and found.status == ("ok", "ok")


@pytest.mark.parametrize("name", ["lasso_dct", "lasso_wavelet", "tv"])
def test_a_measurement_that_is_the_image_has_its_proximal_map(name):
    operator = operators.build("identity", SHAPE)
    y = 0.3 + 0.4 * torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(3))
    found = solvers.solve(name, operator, y, alpha=0.02)
    solver = solvers.REGISTRY.get(name)(solvers.REGISTRY.settings(name, {"alpha": 0.02}))
    torch.testing.assert_close(found.images, solver.prox(y, 0.01))
    losses = [
        (x - y).square().flatten(1).sum(1) + 0.02 * solver.penalty(x)
        for x in (found.images, y, 0.9 * found.images + 0.1 * y, 1.02 * found.images)
    ]
    assert all(bool((losses[0] <= other + 1e-4).all()) for other in losses[1:])


@pytest.mark.parametrize("name", ["lasso_dct", "lasso_wavelet", "tv"])
@pytest.mark.parametrize("operator_name", ["random_mask", "dct_sensing"])
def test_more_steps_gain_nothing(name, operator_name):
    settings = {"measurements": 60} if operator_name == "dct_sensing" else {"missing": 0.4}
    operator = operators.build(operator_name, SHAPE, **settings)
    y = operator.A(torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(4)))
    short = solvers.solve(name, operator, y)
    long = solvers.solve(name, operator, y, steps=600, tolerance=1e-4)
    assert bool(short.converged.all())
    assert bool((short.trace.values["loss"][-1] <= 1.01 * long.trace.values["loss"][-1] + 1e-4).all())
    assert short.passes.tolist() == [0, 0]


def test_a_wavelet_that_is_not_orthogonal_is_refused():
    with pytest.raises(FlowpriorError, match="orthogonal"):
        solvers.solve("lasso_wavelet", *problem(dtype=torch.float32), wavelet="bior2.2")


def test_fista_keeps_rows_apart_and_knows_the_minimum():
    scale = torch.tensor([[1.0], [9.0]], dtype=torch.float64)
    target = torch.tensor([[1.0, -3.0], [0.2, 5.0]], dtype=torch.float64)
    asked = Proximal(lambda x: scale * (x - target), lambda v, step: shrunk(v, step * 0.9), 9.0)
    found = fista(asked, torch.zeros_like(target), 5000, 1e-12)
    torch.testing.assert_close(found.iterates, shrunk(target, 0.9 / scale))
    alone = fista(
        Proximal(lambda x: x - target[:1], asked.prox, 9.0), torch.zeros(1, 2, dtype=torch.float64), 5000, 1e-12
    )
    torch.testing.assert_close(alone.iterates, found.iterates[:1], rtol=0, atol=0)
    assert alone.steps[0] == found.steps[0]


def test_the_largest_eigenvalue_is_found_from_below():
    matrix = torch.randn(20, 20, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    matrix = matrix @ matrix.T
    found = largest_eigenvalue(lambda v: v @ matrix, torch.ones(1, 20, dtype=torch.float64))
    assert 0.98 <= found / float(torch.linalg.eigvalsh(matrix)[-1]) <= 1 + 1e-9


@pytest.mark.parametrize("name", operators.names())
def test_the_norm_of_an_operator_is_its_largest_singular_value(name):
    operator = small_operator(name)
    exact = float(torch.linalg.matrix_norm(operator.matrix(), 2)) ** 2
    found = squared_norm(operator, torch.zeros((), dtype=torch.float64))
    assert 0.97 * exact <= found <= (1 + 1e-6) * exact
