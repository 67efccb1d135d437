"""Sheets of pictures that a training leaves, and samples over temperatures (figure 6 of Chávez 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowprior.files import replacing
from flowprior.images.quantise import to_pixels
from flowprior.models.capabilities import Decodes
from flowprior.randomness import generator

#: Standard deviations of the latents, one row each; 0 is the image G(0).
TEMPERATURES = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2]
PER_ROW = 16


@dataclass(frozen=True)
class Grid:
    """Rows of pictures.

    Attributes:
        rows: uint8 (R, K, H, W, C).
        facts: what a checkpoint's description says of them, such as the temperature of each row.
    """

    rows: np.ndarray
    facts: dict[str, Any]


@torch.no_grad()
def sample_rows(model: Decodes, seed: int) -> np.ndarray:
    """Samples, uint8 (temperatures, 16, H, W, C); a column holds one latent direction at growing length."""
    weights = next(model.parameters())  # type: ignore[attr-defined]
    latents = torch.randn(PER_ROW, *model.latent_shape, generator=generator(seed, "samples"))
    return np.stack([to_pixels(model.decode((latents * heat).to(weights))) for heat in TEMPERATURES])


def samples(model: Decodes, seed: int) -> Grid:
    """What a model believes images look like, a row for each temperature."""
    return Grid(sample_rows(model, seed), {"temperatures": TEMPERATURES})


def save_grid(rows: np.ndarray, path: Path, gap: int = 2) -> None:
    """Write rows of pictures as one PNG, white between them.

    Args:
        rows: uint8 (R, K, H, W, C).
        path: where to.
        gap: pixels between pictures.
    """
    from PIL import Image  # what trains on a machine of its own needs none

    count, per_row, height, width, channels = rows.shape
    sheet = np.full((count * (height + gap) - gap, per_row * (width + gap) - gap, channels), 255, np.uint8)
    for row in range(count):
        for column in range(per_row):
            top, left = row * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width] = rows[row, column]
    with replacing(path) as part:
        Image.fromarray(sheet.squeeze()).save(part)
