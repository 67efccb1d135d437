"""Coverage and CRPS against their definitions, by numerical integration and by simulation."""

import pytest
import torch
from scipy import integrate, stats

from flowprior.errors import FlowpriorError
from flowprior.evaluation.uncertainty import (
    coverage,
    coverage_of,
    coverage_of_samples,
    crps,
    crps_of,
    crps_of_samples,
)
from flowprior.randomness import generator

SHAPE = (2, 3, 4, 5)


def normal(*shape, key=0):
    return torch.randn(*shape, generator=generator("uncertainty", key), dtype=torch.float64)


@pytest.mark.parametrize(("mean", "std", "truth"), [(0.0, 1.0, 0.0), (0.3, 0.02, 0.35), (0.5, 0.1, 0.1), (0, 3, 4)])
def test_crps_is_the_integral_of_the_squared_difference_of_distributions(mean, std, truth):
    def difference(x):
        return (stats.norm.cdf(x, mean, std) - (x >= truth)) ** 2

    ends = (mean - 12 * std, mean + 12 * std)
    wanted, _ = integrate.quad(difference, *ends, points=[truth], limit=200)
    found = crps(*(torch.full((1, 1, 1, 1), float(value)) for value in (mean, std, truth)))
    assert found.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("count", [2, 3, 7, 40])
def test_crps_of_samples_is_that_of_all_pairs(count):
    samples, truth = normal(2, count, *SHAPE[1:]), normal(*SHAPE, key=1)
    apart = (samples[:, :, None] - samples[:, None]).abs().sum((1, 2)) / (2 * count * (count - 1))
    wanted = ((samples - truth[:, None]).abs().mean(1) - apart).flatten(1).mean(1)
    torch.testing.assert_close(crps_of_samples(samples, truth), wanted)


@pytest.mark.parametrize("count", [2, 5, 19])
def test_crps_of_samples_is_fair(count):
    """However few the samples of a distribution are, their mean score is the distribution's own."""
    mean, std, truth = 0.2, 0.5, 0.6
    samples = mean + std * normal(1, count, 1, 300, 300)
    wanted = crps(*(torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (mean, std, truth)))
    found = crps_of_samples(samples, torch.full((1, 1, 300, 300), truth))
    assert found.item() == pytest.approx(wanted.item(), abs=4 * std / 300)


def test_a_score_is_best_for_the_true_distribution():
    truth = 0.5 + 0.1 * normal(1, 1, 200, 200)
    scores = {std: crps(torch.full_like(truth, 0.5), torch.full_like(truth, std), truth) for std in (0.05, 0.1, 0.2)}
    assert min(scores, key=scores.get) == 0.1
    assert crps(torch.full_like(truth, 0.55), torch.full_like(truth, 0.1), truth) > scores[0.1]


def test_coverage_counts_what_lies_within_1_645_deviations():
    truth = normal(1, 1, 1, 5000)
    zero, one = torch.zeros_like(truth), torch.ones_like(truth)
    wanted = (truth.abs() <= stats.norm.ppf(0.95)).double().mean()
    assert coverage(zero, one, truth).item() == pytest.approx(wanted.item())
    assert wanted.item() == pytest.approx(0.9, abs=0.015)
    assert coverage(zero, 0.1 * one, truth) < 0.2
    assert coverage(zero, 10 * one, truth) == 1


@pytest.mark.parametrize("count", [19, 20, 37, 99])
@pytest.mark.parametrize("skewed", [False, True])
def test_samples_of_the_truths_own_distribution_cover_90_percent(count, skewed):
    draws = normal(1, count + 1, 1, 200, 300)
    draws = draws.exp() if skewed else draws
    found = coverage_of_samples(draws[:, 1:], draws[:, 0])
    # Between 5 % and 95 %, interpolated quantiles of a skewed distribution are off by a little.
    assert found.item() == pytest.approx(0.9, abs=0.01)


def test_what_is_certain():
    truth = torch.rand(SHAPE)
    zero = torch.zeros(SHAPE)
    assert torch.equal(coverage(truth, zero, truth), torch.ones(2, dtype=torch.float64))
    assert torch.equal(coverage(truth + 0.1, zero, truth), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(crps(truth + 0.25, zero, truth), torch.full((2,), 0.25, dtype=torch.float64))
    same = truth[:, None].expand(-1, 19, -1, -1, -1)
    assert torch.equal(coverage_of_samples(same, truth), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(crps_of_samples(same, truth), torch.zeros(2, dtype=torch.float64), atol=1e-7, rtol=0)


def test_each_image_has_its_own_value_and_a_nan_is_told():
    mean, std, truth = torch.rand(SHAPE), 0.1 + torch.rand(SHAPE), torch.rand(SHAPE)
    samples = torch.rand(2, 20, *SHAPE[1:])
    for metric, said in ((coverage, (mean, std)), (crps, (mean, std)), (coverage_of_samples, (samples,))):
        both = metric(*said, truth)
        assert both.dtype == torch.float64
        torch.testing.assert_close(both[1:], metric(*(part[1:] for part in said), truth[1:]))
        broken = [part.clone() for part in said]
        broken[0][0, 0, 0, 0] = torch.nan
        assert torch.equal(metric(*broken, truth).isnan(), torch.tensor([True, False]))


def test_what_a_method_gives_decides_how_it_is_judged():
    images, std, truth = torch.rand(SHAPE), 0.1 + torch.rand(SHAPE), torch.rand(SHAPE)
    many = torch.rand(2, 19, *SHAPE[1:])
    few = many[:, :4]
    for judged, by_std, by_samples in ((coverage_of, coverage, coverage_of_samples), (crps_of, crps, crps_of_samples)):
        assert judged(images, None, None, truth).isnan().all()
        assert torch.equal(judged(images, std, None, truth), by_std(images, std, truth))
        assert torch.equal(judged(images, std, few, truth), by_std(images, std, truth))
        assert torch.equal(judged(images, std, many, truth), by_samples(many, truth))
    assert coverage_of(images, None, few, truth).isnan().all()
    assert torch.equal(crps_of(images, None, few, truth), crps_of_samples(few, truth))


def test_mistakes():
    truth = torch.zeros(SHAPE)
    with pytest.raises(FlowpriorError, match=r"one shape \(N, C, H, W\), got \(2, 3, 4\) and"):
        crps(truth[..., 0], truth, truth)
    with pytest.raises(FlowpriorError, match="needs at least 19 samples, got 18; draw more"):
        coverage_of_samples(torch.zeros(2, 18, *SHAPE[1:]), truth)
    with pytest.raises(FlowpriorError, match="CRPS needs at least 2 samples, got 1"):
        crps_of_samples(torch.zeros(2, 1, *SHAPE[1:]), truth)
    with pytest.raises(FlowpriorError, match="must fit, got"):
        crps_of_samples(torch.zeros(*SHAPE, 4), truth)
