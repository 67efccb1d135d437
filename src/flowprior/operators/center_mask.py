"""Inpainting: a square in the middle is lost."""

from __future__ import annotations

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor

from flowprior.operators.masking import Mask
from flowprior.registry import SettingsModel


class CenterMask(Mask):
    """Rows and columns from floor(start * side) up to, not including, floor(stop * side) become zero.

    At 32x32 with 0.3 and 0.7: 9 to 21, a square of 13x13 (Chávez 2021, inpainting). A third of the side is .3334 to
    .6667: 21 to 41 at 64x64 (Oberlin & Verm 2021), 10 to 20 at 32x32.

    Example:
        >>> mask = CenterMask((1, 32, 32), CenterMask.Settings())
        >>> int((mask.A(torch.ones(1, 1, 32, 32)) == 0).sum())
        169
    """

    class Settings(SettingsModel):
        """Settings of `center_mask`."""

        start: float = Field(0.3, ge=0, lt=1, description="first lost row and column, as a fraction of the side")
        stop: float = Field(0.7, ge=0, le=1, description="first row and column kept again, as a fraction of the side")

        @model_validator(mode="after")
        def _ordered(self) -> CenterMask.Settings:
            if self.start > self.stop:
                raise ValueError(f"start must not exceed stop, got start {self.start} and stop {self.stop}")
            return self

    def known(self, like: Tensor) -> Tensor:
        """1 where pixels are known, 0 in the square; shape (H, W), on the device of `like`."""
        _, height, width = self.shape
        mask = torch.ones(height, width, dtype=like.dtype, device=like.device)
        rows, columns = (
            slice(math.floor(self.settings.start * side), math.floor(self.settings.stop * side))
            for side in (height, width)
        )
        mask[rows, columns] = 0
        return mask
