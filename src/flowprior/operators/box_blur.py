"""Deblurring: the mean over a square neighbourhood."""

from __future__ import annotations

import torch
from pydantic import Field, field_validator
from torch import Tensor

from flowprior.operators.separable import Separable
from flowprior.registry import SettingsModel


class BoxBlur(Separable):
    """Mean over size x size pixels, stride 1, zeros beyond the border (Chávez 2021, deblurring with size 3).

    The blur is separable, A = (B_rows, B_columns) with one banded matrix a side, so the pseudo-inverse is that of
    each side. At many sizes B is singular or nearly so: A_dagger is exact on noise-free measurements up to the
    frequencies that the blur removed, and enlarges noise strongly.

    Example:
        >>> blur = BoxBlur((1, 4, 4), BoxBlur.Settings(size=3))
        >>> blur.A(torch.ones(1, 1, 4, 4))[0, 0, 0].tolist()  # a corner sees four of nine pixels
        [0.4444444179534912, 0.6666666865348816, 0.6666666865348816, 0.4444444179534912]
    """

    class Settings(SettingsModel):
        """Settings of `box_blur`."""

        size: int = Field(3, ge=1, description="side of the neighbourhood in pixels, odd")

        @field_validator("size")
        @classmethod
        def _odd(cls, value: int) -> int:
            if value % 2 == 0:
                raise ValueError(f"size must be odd, got {value}; use {value - 1} or {value + 1}")
            return value

    def _factor(self, side: int, like: Tensor) -> Tensor:
        index = torch.arange(side, device=like.device)
        near = (index[:, None] - index[None, :]).abs() <= self.settings.size // 2
        return near.to(like.dtype) / self.settings.size
