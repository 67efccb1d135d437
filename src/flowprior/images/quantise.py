"""From 8-bit pixels to image batches and back, at the bit depth of an experiment."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


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


def dequantise(pixels: Tensor, bits: int, noise: Tensor) -> Tensor:
    """Pixels spread over their bins, as training wants them: (floor(v / 2^(8 - bits)) + noise) / 2^bits.

    Args:
        pixels: uint8 (N, C, H, W).
        bits: grey levels per channel, 2^bits.
        noise: uniform numbers in [0, 1) of the same shape.

    Returns:
        float32 (N, C, H, W) in [0, 1).
    """
    return (torch.floor(pixels.float() / 2 ** (8 - bits)) + noise) / 2**bits


def requantise(values: Tensor, bits: int) -> Tensor:
    """A measurement on [0, 1] rounded to the bin centres of a bit depth; 8 bits and more stay as they are.

    Values outside [0, 1] are clipped first, as a camera would.
    """
    if bits >= 8:
        return values
    level = torch.floor(values.clamp(0, 1) * 2**bits).clamp(max=2**bits - 1)
    return (level + 0.5) / 2**bits


def to_pixels(images: Tensor) -> np.ndarray:
    """An image batch in [0, 1] as uint8 (N, H, W, C), rounded and clipped."""
    return (images.clamp(0, 1) * 255.0).round().byte().permute(0, 2, 3, 1).cpu().numpy()
