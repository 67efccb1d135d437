"""Samples over temperatures: what a flow believes images look like (figure 6 of Chávez 2021)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from flowprior.files import replacing
from flowprior.images.quantise import to_pixels
from flowprior.models.flows.base import Flow
from flowprior.randomness import generator

#: Standard deviations of the latents, one row each; 0 is the image G(0).
TEMPERATURES = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2]
PER_ROW = 16


def sample_rows(flow: Flow, seed: int) -> np.ndarray:
    """Samples, uint8 (temperatures, 16, H, W, C); a column holds one latent direction at growing length."""
    return np.stack(
        [to_pixels(flow.sample(PER_ROW, temperature, generator(seed, "samples"))) for temperature in TEMPERATURES]
    )


def save_grid(rows: np.ndarray, path: Path, gap: int = 2) -> None:
    """Write rows of pictures as one PNG, white between them.

    Args:
        rows: uint8 (R, K, H, W, C).
        path: where to.
        gap: pixels between pictures.
    """
    count, per_row, height, width, channels = rows.shape
    sheet = np.full((count * (height + gap) - gap, per_row * (width + gap) - gap, channels), 255, np.uint8)
    for row in range(count):
        for column in range(per_row):
            top, left = row * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width] = rows[row, column]
    with replacing(path) as part:
        Image.fromarray(sheet.squeeze()).save(part)
