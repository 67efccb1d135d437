"""Inpainting of scattered pixels: each is lost with the same probability, whatever its neighbours are."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from flowprior.operators.masking import Mask
from flowprior.randomness import keyed_rows
from flowprior.registry import SettingsModel


class RandomMask(Mask):
    """A share of the pixels, drawn once from a seed, becomes zero in every channel.

    Exactly round(missing * H * W) pixels are lost, the same of every image; a larger share loses those of a smaller one
    too. Oberlin & Verm 2021 lose 60 %, Asim et al. 2020 several shares.

    Example:
        >>> mask = RandomMask((1, 10, 10), RandomMask.Settings(missing=0.25))
        >>> int(mask.A(torch.ones(1, 1, 10, 10)).sum())
        75
    """

    class Settings(SettingsModel):
        """Settings of `random_mask`."""

        missing: float = Field(0.6, ge=0, le=1, description="share of the pixels that are lost")
        seed: int = Field(0, ge=0, description="which pixels are lost follows from it")

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        super().__init__(shape, settings)
        _, height, width = shape
        drawn = keyed_rows(torch.rand, (height * width,), [("random_mask", settings.seed)])[0]
        mask = torch.ones(height * width)
        mask[drawn.argsort(stable=True)[: round(settings.missing * height * width)]] = 0
        self._mask = mask.reshape(height, width)

    def known(self, like: Tensor) -> Tensor:
        """1 where pixels are known, else 0; shape (H, W), on the device of `like`."""
        return self._mask.to(like)
