"""Plug-and-play: its fixed point and its limit under a Gaussian, the data step, rows by themselves, what is counted."""

import math

import pytest
import torch
from pieces import OPERATOR_SETTINGS

from flowprior import operators, solvers
from flowprior.models.gaussian import Gaussian
from flowprior.solvers.plug_and_play import _data_step

SHAPE = (3, 6, 4)
NAMES = ["identity", "box_blur", "gaussian_blur", "center_mask", "channel_mean", "gaussian_sensing"]


def source(seed=1):
    return torch.Generator().manual_seed(seed)


def gaussian():
    """Correlated values around .5, of a standard deviation of about .1."""
    factor = torch.randn(math.prod(SHAPE), math.prod(SHAPE), generator=source(), dtype=torch.float64)
    return Gaussian.fit(
        (0.5 + 0.012 * torch.randn(2000, len(factor), generator=source(2)).double() @ factor).reshape(-1, *SHAPE)
    )


def problem(name, noise_std=0.1):
    operator = operators.build(name, SHAPE, **OPERATOR_SETTINGS.get(name, [{}])[0])
    x = gaussian().sample(3, generator=source(3)).double()
    return operator, operator.A(x) + noise_std * torch.randn(
        3, *operator.measurement_shape, generator=source(4)
    ).double()


def posterior_mean(prior, operator, y, covariance):
    """Of a Gaussian, seen through A under noise of any covariance: by dense matrices."""
    forward = operator.matrix()
    cross = prior.covariance @ forward.T
    missing = y.flatten(1) - prior.mean @ forward.T
    return (prior.mean + torch.linalg.solve(forward @ cross + covariance(forward), missing.T).T @ cross.T).reshape(
        -1, *SHAPE
    )


def solved(*asked, **settings):
    """The result, and the last image before it was fitted to what was measured, clipped."""
    seen = []
    found = solvers.solve("plug_and_play", *asked, observer=lambda images: seen.append(images) or {}, **settings)
    return found, seen[-1]


@pytest.mark.parametrize("prior_weight", [0.3, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_at_one_level_it_ends_at_a_posterior_mean_in_closed_form(name, prior_weight):
    """The minimum over x is a Gaussian in z again, of the covariance prior_weight * noise^2 I + level^2 A A^T."""
    (operator, y), prior, noise, level = problem(name), gaussian(), 0.05, 0.15
    settings = {"first_std": level, "last_std": level, "steps": 200, "data_steps": 60}
    _, images = solved(operator, y, prior, noise_std=noise, prior_weight=prior_weight, **settings)

    def covariance(forward):
        return prior_weight * noise**2 * torch.eye(len(forward)) + level**2 * forward @ forward.T

    wanted = posterior_mean(prior, operator, y, covariance)
    torch.testing.assert_close(images, wanted.clamp(0, 1), rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", ["identity", "center_mask", "channel_mean"])
def test_with_exact_data_it_ends_at_the_best_linear_estimate(name):
    """Where A shows all that it shows alike, the last level is the noise as the image has it."""
    (operator, y), prior = problem(name), gaussian()
    found = solvers.solve(
        "plug_and_play", operator, y, prior, noise_std=0.1, prior_weight=1e-6, first_std=1e-3, steps=400
    )
    wanted = solvers.solve("linear_mmse", operator, y, prior, noise_std=0.1)
    torch.testing.assert_close(found.images, wanted.images, rtol=0, atol=2e-3)
    assert bool(found.converged.all())


@pytest.mark.parametrize("name", NAMES)
def test_without_noise_the_answer_fits_what_was_measured(name):
    operator, y = problem(name, 0.0)
    found = solvers.solve("plug_and_play", operator, y, gaussian(), noise_std=0.0, data_steps=200)
    assert float((operator.A(found.images) - y).abs().max()) < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_the_data_step_is_the_minimum_of_each_row(name):
    operator, y = problem(name)
    z, ratio = (
        torch.rand(3, *SHAPE, generator=source(5), dtype=torch.float64),
        torch.tensor([0.01, 1.0, math.inf]).double(),
    )
    found = _data_step(operator, y, z, ratio, 300)
    forward, one = operator.matrix(), torch.eye(math.prod(SHAPE), dtype=torch.float64)
    for i in range(2):
        left = forward.T @ forward + ratio[i] * one
        wanted = torch.linalg.solve(left, forward.T @ y[i].flatten() + ratio[i] * z[i].flatten())
        torch.testing.assert_close(found[i].flatten(), wanted, rtol=0, atol=1e-4)
    assert torch.equal(found[2], z[2])


def test_each_image_has_noise_and_weight_of_its_own():
    operator, y = problem("box_blur")
    noise, weight = [0.0, 0.0625, 0.125], [0.125, 0.25, 1.0]
    given = {"noise_std": torch.tensor(noise).double(), "prior_weight": torch.tensor(weight).double()}
    together = solvers.solve("plug_and_play", operator, y, gaussian(), weights=given)
    for i in range(3):
        own = {"noise_std": noise[i], "prior_weight": weight[i]}
        alone = solvers.solve("plug_and_play", operator, y[i : i + 1], gaussian(), **own)
        torch.testing.assert_close(alone.images, together.images[i : i + 1], rtol=0, atol=1e-6)


def test_the_scale_of_a_measurement_says_nothing():
    """Twice the measurement with twice the noise shows the same: the levels are those of images."""

    class Doubled(operators.REGISTRY.get("box_blur")):
        def A(self, x):
            return 2 * super().A(x)

        def A_adjoint(self, y):
            return 2 * super().A_adjoint(y)

    operator, y = problem("box_blur")
    doubled = Doubled(SHAPE, operator.settings)
    one = solvers.solve("plug_and_play", operator, y, gaussian(), noise_std=0.1).images
    two = solvers.solve("plug_and_play", doubled, 2 * y, gaussian(), noise_std=0.2).images
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


class Watched:
    """A denoiser of three networks that says what it was asked, and breaks one image at its fourth call."""

    passes = 3

    def __init__(self, broken=None):
        self.shape, self.inner, self.levels, self.broken = SHAPE, gaussian(), [], broken

    def denoise(self, x, std):
        self.levels.append(std)
        found = self.inner.denoise(x, std)
        if self.broken is not None and len(self.levels) >= 4:
            found[self.broken] = math.nan
        return found


def test_levels_fall_geometrically_to_the_noise():
    operator, y = problem("identity")
    prior = Watched()
    solvers.solve("plug_and_play", operator, y, prior, noise_std=0.1, first_std=0.4, steps=7)
    levels = torch.stack(prior.levels)[:, 0]
    assert float(levels[0]) == pytest.approx(0.4) and float(levels[-1]) == pytest.approx(0.1, rel=0.02)
    torch.testing.assert_close(levels[1:] / levels[:-1], (levels[-1] / levels[0]) ** (1 / 6) * torch.ones(6).double())


def test_passes_are_those_of_the_denoiser():
    operator, y = problem("box_blur")
    found = solvers.solve("plug_and_play", operator, y, Watched(), steps=5)
    assert found.passes.tolist() == [15.0] * 3
    assert found.trace.passes[0] == 0 and found.trace.passes[-1] == 15
    assert found.trace.values["data_fit"].shape == (len(found.trace.passes), 3)


def test_an_image_that_breaks_keeps_its_last_and_is_counted_until_then():
    operator, y = problem("box_blur")
    settings = {"noise_std": 0.1, "steps": 6}
    found = solvers.solve("plug_and_play", operator, y, Watched(broken=1), **settings)
    whole = solvers.solve("plug_and_play", operator, y, Watched(), **settings)
    assert found.status == ("ok", "diverged", "ok") and found.passes.tolist() == [18.0, 12.0, 18.0]
    assert bool(torch.isfinite(found.images).all()) and not bool(found.converged[1])
    torch.testing.assert_close(found.images[[0, 2]], whole.images[[0, 2]])


def test_few_steps_have_not_converged():
    operator, y = problem("center_mask")
    settings = {"noise_std": 0.1, "first_std": 0.5}
    assert not bool(solvers.solve("plug_and_play", operator, y, gaussian(), steps=2, **settings).converged.any())
    assert bool(solvers.solve("plug_and_play", operator, y, gaussian(), steps=200, **settings).converged.all())


def test_it_begins_where_it_is_told():
    operator, y = problem("identity")
    start = torch.rand(3, *SHAPE, generator=source(6))
    _, first = solved(operator, y, gaussian(), start_images=start, steps=1)
    seen = []
    solvers.solve("plug_and_play", operator, y, gaussian(), start_images=start, observer=lambda x: seen.append(x) or {})
    torch.testing.assert_close(seen[0], start.double())
    assert first.shape == start.shape
