"""How good a posterior is, not only its mean: coverage of its intervals, and CRPS. One value per image.

What a method says of a pixel is a normal distribution (mean and standard deviation) or samples.
"""

from __future__ import annotations

import math

import torch

from flowprior.errors import FlowpriorError

#: Probability of the central interval whose coverage is counted.
LEVEL = 0.9
#: So many samples at least: the outer two of 19 hold 90 % of the truth between them, those of fewer hold less.
FEWEST_SAMPLES = 19


def coverage_of(
    images: torch.Tensor, std: torch.Tensor | None, samples: torch.Tensor | None, reference: torch.Tensor
) -> torch.Tensor:
    """Coverage of what a method gives (`flowprior.solvers.Result`): by its samples where there are enough, else by std.

    Returns:
        float64, shape (N,); NaN where it gives neither.
    """
    if samples is not None and samples.shape[1] >= FEWEST_SAMPLES:
        return coverage_of_samples(samples, reference)
    return _absent(reference) if std is None else coverage(images, std, reference)


def crps_of(
    images: torch.Tensor, std: torch.Tensor | None, samples: torch.Tensor | None, reference: torch.Tensor
) -> torch.Tensor:
    """CRPS of what a method gives: by its samples where there are enough for a coverage too or no std, else by std.

    Returns:
        float64, shape (N,); NaN where it gives neither std nor two samples.
    """
    if samples is not None and samples.shape[1] >= (FEWEST_SAMPLES if std is not None else 2):
        return crps_of_samples(samples, reference)
    return _absent(reference) if std is None else crps(images, std, reference)


def coverage(mean: torch.Tensor, std: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Share of values that lie in the central 90 % of N(mean, std^2): 0.9 where the posterior is calibrated.

    Args:
        mean: (N, C, H, W).
        std: standard deviations, same shape; where they are 0 only the mean itself is inside.
        reference: the truth, same shape.

    Returns:
        float64, shape (N,); NaN where mean or std hold a NaN.

    Example:
        >>> zero = torch.zeros(1, 1, 1, 2)
        >>> coverage(zero, zero + 1, torch.tensor([[[[1.6, 1.7]]]]))
        tensor([0.5000], dtype=torch.float64)
    """
    _check(mean, reference)
    _check(std, reference)
    reach = math.sqrt(2) * torch.special.erfinv(torch.tensor(LEVEL, dtype=torch.float64)).to(mean.device)
    inside = (reference.double() - mean.double()).abs() <= reach * std.double()
    return _where_numbers(inside.double(), mean + std)


def coverage_of_samples(samples: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Share of values that lie between the samples' 5 % and 95 % quantiles.

    The p-quantile of S samples is at p (S + 1) of them in order (Weibull's plotting position): of as many more draws
    of the same distribution, 90 % are expected between the two, whatever S and the distribution are.

    Args:
        samples: (N, S, C, H, W), S at least 19.
        reference: the truth (N, C, H, W).

    Returns:
        float64, shape (N,); NaN where samples hold a NaN.

    Raises:
        FlowpriorError: shapes differ, or there are too few samples for a 90 % interval.
    """
    _check_samples(samples, reference)
    count = samples.shape[1]
    if count < FEWEST_SAMPLES:
        raise FlowpriorError(f"the coverage of 90 % needs at least {FEWEST_SAMPLES} samples, got {count}; draw more")
    ordered = samples.double().sort(dim=1).values
    low, high = (_quantile(ordered, p) for p in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    truth = reference.double()
    return _where_numbers(((low <= truth) & (truth <= high)).double(), samples.sum(1))


def crps(mean: torch.Tensor, std: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Continuous ranked probability score of N(mean, std^2), averaged over values; the smaller the better.

    Closed form of Gneiting et al. 2005, Eq. 5; where std is 0 it is the absolute error.

    Args:
        mean: (N, C, H, W).
        std: standard deviations, same shape.
        reference: the truth, same shape.

    Returns:
        float64, shape (N,).

    Example:
        >>> zero = torch.zeros(1, 1, 1, 1)
        >>> crps(zero, zero, zero + 0.25)
        tensor([0.2500], dtype=torch.float64)
    """
    _check(mean, reference)
    _check(std, reference)
    error, std = (reference.double() - mean.double()).abs(), std.double()
    z = error / torch.where(std > 0, std, 1.0)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    spread = std * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))
    return torch.where(std == 0, error, spread).flatten(1).mean(1)


def crps_of_samples(samples: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """CRPS estimated from samples, averaged over values: E|X - y| - E|X - X'| / 2.

    The second mean is over pairs of different samples ("fair", Ferro 2014): its expectation does not depend on how many
    samples there are.

    Args:
        samples: (N, S, C, H, W), S at least 2.
        reference: the truth y (N, C, H, W).

    Returns:
        float64, shape (N,).

    Raises:
        FlowpriorError: shapes differ, or there is only one sample.
    """
    _check_samples(samples, reference)
    count = samples.shape[1]
    if count < 2:
        raise FlowpriorError(f"CRPS needs at least 2 samples, got {count}; draw more")
    ordered = samples.double().sort(dim=1).values
    error = (ordered - reference.double()[:, None]).abs().mean(1)
    # In order, the sum of differences of pairs weighs sample i (from 0) by 2 i - S + 1.
    weights = 2 * torch.arange(count, dtype=torch.float64, device=samples.device) - count + 1
    pairs = (ordered * weights.reshape(1, -1, 1, 1, 1)).sum(1) / (count * (count - 1))
    return (error - pairs).flatten(1).mean(1)


def _quantile(ordered: torch.Tensor, p: float) -> torch.Tensor:
    """Of samples in order (N, S, ...), at p (S + 1), between two of them linearly."""
    # Rounded: 0.05 * 20 must be the first sample and not a little before it.
    place = round(p * (ordered.shape[1] + 1), 9) - 1
    below = int(place)
    above = min(below + 1, ordered.shape[1] - 1)
    return torch.lerp(ordered[:, below], ordered[:, above], place - below)


def _absent(reference: torch.Tensor) -> torch.Tensor:
    return torch.full((len(reference),), torch.nan, dtype=torch.float64, device=reference.device)


def _where_numbers(inside: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Means per image; NaN where the values hold a NaN, which is outside of nothing and inside of nothing."""
    return torch.where(values.isnan(), torch.nan, inside).flatten(1).mean(1)


def _check(values: torch.Tensor, reference: torch.Tensor) -> None:
    if reference.ndim != 4 or values.shape != reference.shape:
        raise FlowpriorError(
            f"mean, std and truth have one shape (N, C, H, W), got {tuple(values.shape)} and {tuple(reference.shape)}"
        )


def _check_samples(samples: torch.Tensor, reference: torch.Tensor) -> None:
    if samples.ndim != 5 or (samples.shape[0], *samples.shape[2:]) != tuple(reference.shape):
        raise FlowpriorError(
            f"samples (N, S, C, H, W) and truth (N, C, H, W) must fit, got {tuple(samples.shape)} "
            f"and {tuple(reference.shape)}"
        )
