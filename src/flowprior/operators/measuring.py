"""Measurements of a set of images, each with noise of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.images.quantise import at_depth, targets, to_float
from flowprior.operators.base import Operator
from flowprior.operators.task import TaskSettings
from flowprior.randomness import keyed_rows


def measure_images(
    operator: Operator,
    pixels: np.ndarray,
    names: Sequence[str],
    task: TaskSettings,
    bits: int,
    key: tuple[object, ...],
    task_name: str,
) -> Tensor:
    """Y = A x + noise, the noise of each image keyed by its name.

    x is the target (`images.quantise.targets`), except where the measurement is an image itself (`task.as_image`):
    then the noise falls on the full-depth picture, and the sum is clipped and quantised as the targets were.

    Args:
        operator: the measurement operator.
        pixels: uint8 images (N, H, W, C).
        names: identity of each image.
        task: the noise and the kind of measurement.
        bits: grey levels per channel, 2^bits.
        key: identity of the set: seed and data set.
        task_name: with `key`, the identity of the problem.

    Returns:
        Measurements (N, *operator.measurement_shape).

    Raises:
        FlowpriorError: `task.as_image`, but a measurement is no picture.
    """
    if task.as_image and not operator.pictures:
        raise FlowpriorError(
            f"a measurement of shape {tuple(operator.measurement_shape)} is no image; "
            f"leave out as_image of task '{task_name}'"
        )
    x = to_float(pixels) if task.as_image else targets(pixels, names, bits, key)
    noise = keyed_rows(torch.randn, operator.measurement_shape, [(*key, task_name, name, "noise") for name in names])
    y = operator.measure(x, task.noise_of(math.prod(operator.measurement_shape)), noise=noise)
    return at_depth(255 * y.clamp(0, 1), names, bits, (*key, task_name)) if task.as_image else y
