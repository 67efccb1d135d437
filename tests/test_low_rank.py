"""The low-rank Gaussian: the dense one's posterior mean where both are the same, its fit, its file, its place."""

import numpy as np
import pytest
import torch
from pieces import small_operator

from flowprior import operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.experiment.loading import experiment_from
from flowprior.models.gaussian import Gaussian
from flowprior.models.low_rank import LowRankGaussian
from flowprior.optim.conjugate import conjugate_gradients

SHAPE = (3, 8, 8)


def pixels(count=300, side=8):
    source = np.random.default_rng(0)
    smooth = np.cumsum(source.normal(size=(count, side, side, 3)), axis=1)
    return np.clip(128 + 20 * smooth, 0, 255).astype(np.uint8)


def same_dense(low):
    axes = low.axes
    covariance = axes @ torch.diag(low.variances - low.floor) @ axes.T + low.floor * torch.eye(len(axes))
    return Gaussian(low.shape, low.mean, covariance)


@pytest.mark.parametrize("operator_name", operators.names())
@pytest.mark.parametrize("noise_std", [0.005, 0.1])
def test_its_posterior_mean_is_that_of_the_dense_gaussian(operator_name, noise_std):
    low = LowRankGaussian.fit_pixels(pixels(), rank=40)
    operator = small_operator(operator_name, SHAPE)
    y = operator.A(torch.rand(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    wanted = same_dense(low).posterior_mean(operator, y, noise_std)
    torch.testing.assert_close(low.observed(operator).posterior_mean(y, noise_std), wanted, rtol=1e-6, atol=1e-6)


def test_with_all_axes_it_is_the_gaussian_of_the_images():
    low, dense = LowRankGaussian.fit_pixels(pixels(), rank=192), Gaussian.fit_pixels(pixels())
    torch.testing.assert_close(low.mean, dense.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(same_dense(low).covariance, dense.covariance, rtol=0, atol=1e-5)


def test_what_is_left_of_the_variance_is_its_floor():
    low, dense = LowRankGaussian.fit_pixels(pixels(), rank=10), Gaussian.fit_pixels(pixels())
    assert float(same_dense(low).covariance.trace()) == pytest.approx(float(dense.covariance.trace()), rel=1e-4)
    assert low.axes.shape == (192, 10) and bool((low.variances >= low.floor).all())


def test_a_file_brings_it_back(tmp_path):
    low = LowRankGaussian.fit_pixels(pixels(), rank=10)
    low.save(tmp_path / "low.npz")
    back = LowRankGaussian.load(tmp_path / "low.npz")
    operator = small_operator("box_blur", SHAPE)
    y = torch.rand(1, *SHAPE)
    found = [solvers.solve("linear_mmse", operator, y, prior=one, noise_std=0.05).images for one in (low, back)]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-4)
    with pytest.raises(FlowpriorError, match="LinearGaussian"):
        solvers.solve("linear_posterior", operator, y, prior=low)


def test_it_stands_in_where_images_are_too_large_for_the_dense_one():
    def asked(side, **method):
        settings = {"data": {"resolution": side}, "tasks": {"a": {"operator": "identity"}}, "priors": {}}
        return experiment_from({"name": "x", **settings, "methods": {"linear_mmse": method}}).priors_of("linear_mmse")

    assert (asked(64), asked(128)) == (("gaussian",), ("low_rank_gaussian",))
    assert asked(64, priors=["gaussian", "low_rank_gaussian"]) == ("gaussian", "low_rank_gaussian")


def test_conjugate_gradients_solve_every_row_by_itself():
    source = torch.Generator().manual_seed(2)
    matrix = torch.randn(30, 30, generator=source, dtype=torch.float64)
    matrix = matrix @ matrix.T + torch.eye(30)
    values = torch.randn(4, 30, generator=source, dtype=torch.float64)
    values[2] = 0
    found = conjugate_gradients(lambda rows: rows @ matrix, values)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, values.T).T, rtol=1e-6, atol=1e-7)
    alone = conjugate_gradients(lambda rows: rows @ matrix, values[:1])
    torch.testing.assert_close(alone, found[:1], rtol=1e-9, atol=1e-11)
