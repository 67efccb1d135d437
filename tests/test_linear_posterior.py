"""The Gaussian's posterior by the door that all methods share; its mathematics is tested with the Gaussian."""

import torch
from pieces import small_operator

from flowprior import solvers
from flowprior.evaluation.uncertainty import coverage, crps
from flowprior.models.gaussian import Gaussian

SHAPE = (3, 4, 4)
NAMES = ("a", "b", "c")


def prior():
    return Gaussian.fit(torch.rand(200, *SHAPE, generator=torch.Generator().manual_seed(3)))


def problem(name="gaussian_sensing", count=3):
    operator = small_operator(name, SHAPE)
    x = prior().sample(count, generator=torch.Generator().manual_seed(2))
    return operator, x, operator.measure(x, 0.05, torch.Generator().manual_seed(4))


def test_its_image_is_the_best_linear_estimate_and_its_std_the_formulas():
    operator, _, y = problem()
    found = solvers.solve("linear_posterior", operator, y, prior(), noise_std=0.05)
    linear = solvers.solve("linear_mmse", operator, y, prior(), noise_std=0.05)
    torch.testing.assert_close(found.images, linear.images)
    assert linear.std is None and linear.samples is None
    forward, covariance = operator.matrix(), prior().covariance
    gram = forward @ covariance @ forward.T + 0.05**2 * torch.eye(len(forward), dtype=torch.float64)
    wanted = (covariance - covariance @ forward.T @ torch.linalg.solve(gram, forward @ covariance)).diagonal().sqrt()
    for one in found.std:
        torch.testing.assert_close(one.double().flatten(), wanted, rtol=1e-5, atol=1e-6)


def test_samples_follow_from_seed_and_image_alone():
    operator, _, y = problem()
    few, many, none = (
        solvers.solve("linear_posterior", operator, y, prior(), keys=NAMES, samples=count).samples
        for count in (2, 5, 0)
    )
    assert none is None
    torch.testing.assert_close(many[:, :2], few)
    turned = solvers.solve("linear_posterior", operator, y.flip(0), prior(), keys=NAMES[::-1], samples=2).samples
    torch.testing.assert_close(turned.flip(0), few, rtol=0, atol=1e-5)
    other = solvers.solve("linear_posterior", operator, y, prior(), keys=NAMES, samples=2, seed=1).samples
    assert not torch.allclose(other, few)


def test_samples_scatter_around_the_image_by_its_std():
    operator, _, y = problem("channel_mean", count=1)
    found = solvers.solve("linear_posterior", operator, y, prior(), samples=4000, noise_std=0.05)
    torch.testing.assert_close(found.samples[0].std(0), found.std[0], rtol=0.06, atol=0)
    # The image is clipped to [0, 1], samples are not.
    torch.testing.assert_close(found.samples[0].mean(0).clamp(0, 1), found.images[0], rtol=0, atol=0.02)


def test_what_it_says_of_a_gaussians_images_is_calibrated():
    operator, x, y = problem("center_mask", count=2000)
    found = solvers.solve("linear_posterior", operator, y, prior(), noise_std=0.05, samples=0)
    # Where the mean stays in [0, 1], which clipping would move.
    inside = (found.images > 0) & (found.images < 1)
    covered = coverage(*(part[inside].reshape(1, 1, 1, -1) for part in (found.images, found.std, x)))
    assert abs(covered.item() - 0.9) < 0.01
    assert crps(found.images, found.std, x).mean() < crps(found.images, 2 * found.std, x).mean()
    assert crps(found.images, found.std, x).mean() < crps(found.images, found.std / 2, x).mean()
