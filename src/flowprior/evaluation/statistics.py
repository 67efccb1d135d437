"""Means with bootstrap intervals, and differences of two methods on the same images."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from flowprior.errors import FlowpriorError

#: A perfect image has an infinite PSNR, and one of them would make every mean infinite. In means and in
#: differences it counts with this many dB, which no imperfect 8-bit colour picture up to 226 x 226 reaches.
PSNR_CAP = 100.0
RESAMPLES = 10_000
LEVEL = 0.95


class Description(NamedTuple):
    """Mean, standard deviation between images, and a 95 % bootstrap interval of the mean."""

    mean: float
    std: float
    low: float
    high: float


def capped(psnr: np.ndarray) -> np.ndarray:
    """PSNR values fit for a mean: `inf` becomes `PSNR_CAP`, and what is not a number stays so.

    Example:
        >>> capped(np.array([30.0, np.inf, np.nan])).tolist()
        [30.0, 100.0, nan]
    """
    values = np.asarray(psnr, dtype=np.float64)
    return np.where(np.isneginf(values), np.nan, np.minimum(values, PSNR_CAP))


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile-bootstrap interval of the mean, resampling images.

    The resamples depend on the seed and on how many images there are, on nothing else: the interval of a
    difference a - b is exactly the mirrored interval of b - a.

    Args:
        values: one per image, shape (n,).
        seed: of the experiment.

    Returns:
        Lower and upper end; both NaN for fewer than two images or where a value is NaN.

    Example:
        >>> bootstrap_interval(np.array([1.0, 1.0, 1.0]))
        (1.0, 1.0)
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return float("nan"), float("nan")
    # Centred, so that the differences of nearly equal large numbers keep their digits.
    centre = values.mean()
    means = centre + _weights(len(values), seed) @ (values - centre)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


@lru_cache(maxsize=8)
def _weights(n: int, seed: int) -> np.ndarray:
    """How often each of n images is drawn in each resample, divided by n: shape (RESAMPLES, n)."""
    from flowprior.randomness import seed_of

    rng = np.random.default_rng(seed_of(seed, "bootstrap", n))
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    weights.flags.writeable = False
    return weights


def describe(values: np.ndarray, seed: int = 0) -> Description:
    """Mean, sample standard deviation (n - 1) and interval of one value per image.

    NaN among the values makes everything NaN: an image that failed never vanishes from a mean.

    Example:
        >>> describe(np.array([1.0, 3.0])).mean
        2.0
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0:
        return Description(*[float("nan")] * 4)
    std = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return Description(float(values.mean()), std, *bootstrap_interval(values, seed))


def pooled_psnr_chavez2021(psnr_per_image: np.ndarray, batch: int = 32) -> float:
    """What Chávez 2021 prints: one MSE per consecutive batch of images, the program's PSNR, then the mean.

    Only for the column beside the paper's printed table: it is neither a true PSNR nor a mean over images.

    Args:
        psnr_per_image: *true* PSNR in dB, in the order of the images, shape (n,).
        batch: images that share one MSE; the last batch may be smaller.

    Returns:
        The program's PSNR, `20 log10(255 / MSE^(1/4))` averaged over batches; `inf` where a whole batch is
        perfect, NaN where a value is NaN.

    Example:
        >>> round(pooled_psnr_chavez2021(np.full(64, 27.31)), 2)
        37.72
    """
    if batch < 1:
        raise FlowpriorError(f"a batch must hold at least one image, got {batch}")
    psnr = np.asarray(psnr_per_image, dtype=np.float64)
    if len(psnr) == 0:
        return float("nan")
    mse = 10 ** (-psnr / 10)
    pooled = np.array([mse[i : i + batch].mean() for i in range(0, len(mse), batch)])
    with np.errstate(divide="ignore"):
        return float(np.mean(20 * np.log10(255 / (pooled * 255**2) ** 0.25)))
