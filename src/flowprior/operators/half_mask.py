"""Inpainting from one side: the left, right, upper or lower part of an image is lost."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from flowprior.operators.masking import Mask
from flowprior.registry import SettingsModel


class HalfMask(Mask):
    """The floor(missing * side) rows or columns nearest to one side become zero (Asim et al. 2020: left and bottom).

    Example:
        >>> mask = HalfMask((1, 2, 4), HalfMask.Settings(lost="left"))
        >>> mask.A(torch.ones(1, 1, 2, 4))[0, 0]
        tensor([[0., 0., 1., 1.],
                [0., 0., 1., 1.]])
    """

    class Settings(SettingsModel):
        """Settings of `half_mask`."""

        lost: Literal["left", "right", "top", "bottom"] = Field("left", description="the part that is lost")
        missing: float = Field(0.5, ge=0, le=1, description="how much of the side is lost")

    def known(self, like: Tensor) -> Tensor:
        """1 where pixels are known, 0 in the lost part; shape (H, W), on the device of `like`."""
        _, height, width = self.shape
        lost = self.settings.lost
        upright = lost in ("top", "bottom")
        side = height if upright else width
        count = math.floor(self.settings.missing * side)
        line = torch.ones(side, dtype=like.dtype, device=like.device)
        line[slice(0, count) if lost in ("top", "left") else slice(side - count, side)] = 0
        return (line[:, None] if upright else line).expand(height, width)
