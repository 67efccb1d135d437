"""The Gaussian: its density, draws and posteriors against closed forms."""

import math

import pytest
import torch
from pieces import OPERATOR_CASES

from flowprior import operators
from flowprior.errors import FlowpriorError
from flowprior.evaluation.uncertainty import coverage, coverage_of_samples, crps, crps_of_samples
from flowprior.models.capabilities import Denoises, Density, LinearGaussian
from flowprior.models.gaussian import Gaussian
from flowprior.randomness import generator

SHAPE = (3, 2, 2)


def gaussian(shape=SHAPE, rank=None):
    """One with correlated values; of less rank than values, one without variance in some directions."""
    count = math.prod(shape)
    factor = 0.1 * torch.randn(count, rank or count, generator=generator("gaussian", rank), dtype=torch.float64)
    mean = 0.5 + 0.1 * torch.randn(count, generator=generator("mean"), dtype=torch.float64)
    return Gaussian(shape, mean, factor @ factor.T)


def normal(*shape, key=0):
    return torch.randn(*shape, generator=generator("normal", key), dtype=torch.float64)


def posterior_covariance(prior, operator, noise_std):
    forward, covariance = operator.matrix(), prior.covariance
    gram = forward @ covariance @ forward.T + noise_std**2 * torch.eye(len(forward), dtype=torch.float64)
    return covariance - covariance @ forward.T @ torch.linalg.solve(gram, forward @ covariance)


def test_it_can_what_its_protocols_say():
    assert all(isinstance(gaussian(), protocol) for protocol in (Density, Denoises, LinearGaussian))


def test_log_prob_is_the_density_and_differentiable():
    prior = gaussian()
    x = torch.rand(4, *SHAPE, dtype=torch.float64)
    wanted = torch.distributions.MultivariateNormal(prior.mean, prior.covariance).log_prob(x.flatten(1))
    torch.testing.assert_close(prior.log_prob(x), wanted)
    assert prior.log_prob(x.float()).dtype == torch.float32
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_prob(x).sum(), x)
    score = -torch.linalg.solve(prior.covariance, (x.detach().flatten(1) - prior.mean).T).T
    torch.testing.assert_close(gradient.flatten(1), score)


def test_without_variance_in_some_direction_there_is_no_density():
    with pytest.raises(FlowpriorError, match="no variance in 7 of 12 directions and so no density"):
        gaussian(rank=5).log_prob(torch.rand(1, *SHAPE))


@pytest.mark.parametrize("rank", [None, 5])
def test_samples_have_its_moments(rank):
    prior = gaussian(rank=rank)
    images = prior.sample(40000, generator=torch.Generator().manual_seed(0))
    assert images.shape == (40000, *SHAPE) and images.dtype == torch.float32
    found = Gaussian.fit(images)
    torch.testing.assert_close(found.mean, prior.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(found.covariance, prior.covariance, rtol=0, atol=0.005)
    torch.testing.assert_close(prior.root @ prior.root.T, prior.covariance)
    first, again = (prior.sample(3, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again)
    cold = prior.sample(2, temperature=0.0).double().flatten(1)
    torch.testing.assert_close(cold, prior.mean.expand(2, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rank", [None, 5])
def test_denoising_is_the_posterior_mean_at_each_images_noise(rank):
    prior = gaussian(rank=rank)
    identity = operators.build("identity", SHAPE)
    x, std = torch.rand(3, *SHAPE, dtype=torch.float64), torch.tensor([0.01, 0.1, 3.0], dtype=torch.float64)
    found = prior.denoise(x, std)
    for i in range(3):
        torch.testing.assert_close(found[i : i + 1], prior.posterior_mean(identity, x[i : i + 1], std[i].item()))
        torch.testing.assert_close(found[i : i + 1], prior.denoise(x[i : i + 1], std[i].item()))
    # Without noise an image of its own stays as it is, and any other goes to the nearest in the span.
    own = prior.sample(3, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(prior.denoise(own, 0.0), own, rtol=0, atol=1e-6)
    clean = prior.denoise(x, 0.0)
    torch.testing.assert_close(prior.denoise(clean, 0.0), clean)
    assert torch.allclose(clean, x) == (rank is None)


@pytest.mark.parametrize("rank", [None, 6])
@pytest.mark.parametrize("case", OPERATOR_CASES, ids=str)
def test_posterior_std_is_the_root_of_the_covariances_diagonal(case, rank):
    name, shape, settings = case
    prior, operator = gaussian(shape, rank), operators.build(name, shape, **settings)
    found = prior.observed(operator).posterior(0.05).std
    wanted = posterior_covariance(prior, operator, 0.05).diagonal().clamp(min=0).sqrt().reshape(shape)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rank", [None, 5])
@pytest.mark.parametrize("name", ["channel_mean", "gaussian_sensing"])
def test_posterior_samples_have_the_posteriors_moments(name, rank):
    prior = gaussian(rank=rank)
    operator = operators.build(name, SHAPE, **({"measurements": 5} if name == "gaussian_sensing" else {}))
    posterior = prior.observed(operator).posterior(0.03)
    y = operator.A(prior.sample(1, generator=torch.Generator().manual_seed(3)).double())
    count = 40000
    many = y.expand(count, *y.shape[1:])
    found = Gaussian.fit(posterior.samples(many, normal(count, 12 + y[0].numel())))
    torch.testing.assert_close(found.mean, posterior.mean(y).flatten(), rtol=0, atol=0.005)
    torch.testing.assert_close(found.covariance, posterior_covariance(prior, operator, 0.03), rtol=0, atol=0.002)


def test_where_noise_vanishes_what_is_seen_is_certain_and_the_rest_conditional():
    prior, mask = gaussian((1, 4, 4)), operators.build("center_mask", (1, 4, 4), start=0.25, stop=0.75)
    x = prior.sample(2, generator=torch.Generator().manual_seed(3)).double()
    posterior = prior.observed(mask).posterior(1e-6)
    seen = mask.known(x).bool().expand(1, 4, 4)
    assert posterior.std[seen].max() < 1e-5
    torch.testing.assert_close(posterior.mean(x)[:, seen], x[:, seen], rtol=0, atol=1e-5)
    lost, flat = ~seen.flatten(), prior.covariance
    within = flat[lost][:, ~lost] @ torch.linalg.solve(flat[~lost][:, ~lost], flat[~lost][:, lost])
    wanted = (flat[lost][:, lost] - within).diagonal().sqrt()
    torch.testing.assert_close(posterior.std[~seen], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["identity", "center_mask", "channel_mean", "gaussian_sensing"])
def test_it_is_calibrated_on_images_of_its_own(name):
    """Coverage is 90 % and CRPS is what the posterior's own size promises, within Monte-Carlo error."""
    prior = gaussian((3, 4, 4))
    settings = {"measurements": 20} if name == "gaussian_sensing" else {}
    operator, noise_std, count = operators.build(name, prior.shape, **settings), 0.05, 3000
    x = prior.coloured(normal(count, 48, key="truth"))
    y = operator.measure(x, noise_std, torch.Generator().manual_seed(5))
    posterior = prior.observed(operator).posterior(noise_std)
    mean, std = posterior.mean(y), posterior.std.expand(count, *prior.shape)
    assert coverage(mean, std, x).mean().item() == pytest.approx(0.9, abs=0.005)
    # E|Z| - E|Z - Z'| / 2 of a normal error of the stated size.
    promised = (posterior.std / math.sqrt(math.pi)).mean().item()
    assert crps(mean, std, x).mean().item() == pytest.approx(promised, rel=0.015)
    draws = torch.stack([posterior.samples(y, normal(count, 48 + y[0].numel(), key=s)) for s in range(20)], dim=1)
    assert coverage_of_samples(draws, x).mean().item() == pytest.approx(0.9, abs=0.005)
    assert crps_of_samples(draws, x).mean().item() == pytest.approx(promised, rel=0.015)
    # With a wrong size of the noise it is not.
    overdone = prior.observed(operator).posterior(0.2)
    assert coverage(overdone.mean(y), overdone.std.expand_as(x), x).mean() > 0.91
