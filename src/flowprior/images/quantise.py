"""From 8-bit pixels to image batches and back, at the bit depth of an experiment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flowprior.randomness import keyed_rows


def to_float(pixels: np.ndarray, bits: int = 8) -> Tensor:
    """8-bit pixels as an image batch in [0, 1].

    8 bits: v / 255. Fewer bits: the centre of the bin that the value falls into,
    (floor(v / 2^(8 - bits)) + 1/2) / 2^bits, so that quantising shifts no mean.

    Args:
        pixels: uint8 (N, H, W, C).
        bits: grey levels per channel, 2^bits.

    Returns:
        float32 (N, C, H, W).

    Example:
        >>> to_float(np.full((1, 1, 1, 3), 255, np.uint8), bits=5).flatten().tolist()
        [0.984375, 0.984375, 0.984375]
    """
    values = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
    if bits == 8:
        return values / 255.0
    return (torch.floor(values / 2 ** (8 - bits)) + 0.5) / 2**bits


def dequantise(values: Tensor, bits: int, noise: Tensor) -> Tensor:
    """Values spread over their bins, as training wants them: (floor(v / 2^(8 - bits)) + noise) / 2^bits.

    Args:
        values: uint8 or float in [0, 255], any shape.
        bits: grey levels per channel, 2^bits.
        noise: uniform numbers in [0, 1) of the same shape.

    Returns:
        float32 of the same shape, in [0, 1).
    """
    return (torch.floor(values.float() / 2 ** (8 - bits)) + noise) / 2**bits


def at_depth(values: Tensor, names: Sequence[str], bits: int, key: tuple[object, ...]) -> Tensor:
    """Images as an experiment of some bit depth holds them.

    8 bits: v / 255. Fewer bits: `dequantise`, as in Chávez 2021, with noise keyed by the image.

    Args:
        values: uint8 or float (N, C, H, W) in [0, 255].
        names: identity of each image.
        bits: grey levels per channel, 2^bits.
        key: identity of the set that the images belong to.

    Returns:
        float32 (N, C, H, W) in [0, 1].
    """
    if bits == 8:
        return values / 255.0
    noise = keyed_rows(torch.rand, tuple(values.shape[1:]), [(*key, name, "place in the bin") for name in names])
    return dequantise(values, bits, noise)


def targets(pixels: np.ndarray, names: Sequence[str], bits: int, key: tuple[object, ...]) -> Tensor:
    """The images that measurements are made of and solutions are compared with: the same for every task and method.

    Args:
        pixels: uint8 (N, H, W, C).
        names: identity of each image.
        bits: grey levels per channel, 2^bits.
        key: identity of the set: seed and data set.

    Returns:
        float32 (N, C, H, W) in [0, 1].
    """
    return at_depth(torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2), names, bits, key)


def to_pixels(images: Tensor) -> np.ndarray:
    """An image batch in [0, 1] as uint8 (N, H, W, C), rounded and clipped."""
    return (images.clamp(0, 1) * 255.0).round().byte().permute(0, 2, 3, 1).cpu().numpy()
