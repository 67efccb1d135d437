"""Measurements of a set of images, each with noise of its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from flowprior.operators.base import Operator
from flowprior.randomness import normal_rows


def measure_images(
    operator: Operator, x: Tensor, names: Sequence[str], noise_std: float, clip: bool, key: tuple[object, ...]
) -> Tensor:
    """Y = A x + noise, the noise of each image keyed by its name.

    Args:
        operator: the measurement operator.
        x: images (N, C, H, W) in [0, 1].
        names: identity of each image.
        noise_std: standard deviation of the noise, on values in [0, 1].
        clip: clip noisy measurements to [0, 1], as Chávez 2021 does in denoising.
        key: identity of the problem: seed, data set, task.

    Returns:
        Measurements (N, *operator.measurement_shape).
    """
    noise = normal_rows(operator.measurement_shape, [(*key, name, "noise") for name in names])
    y = operator.measure(x, noise_std, noise=noise)
    return y.clamp(0, 1) if clip else y
