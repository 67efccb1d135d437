"""Deblurring: the mean over a square neighbourhood."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.operators.separable import Separable
from flowprior.registry import SettingsModel


class BoxBlur(Separable):
    """Mean over size x size pixels, stride 1: Chávez 2021 (size 3) and Oberlin & Verm 2021 (size 7), with zeros beyond.

    With `border: zeros` the measurement is as large as the image; with `border: valid` only neighbourhoods within the
    image are seen, (H - size + 1) x (W - size + 1) of them, as a camera sees no scene beyond its frame.

    The blur is separable, A = (B_rows, B_columns) with one banded matrix a side, so the pseudo-inverse is that of
    each side. At many sizes B is singular or nearly so: A_dagger is exact on noise-free measurements up to the
    frequencies that the blur removed, and enlarges noise strongly.

    Example:
        >>> blur = BoxBlur((1, 4, 4), BoxBlur.Settings(size=3))
        >>> blur.A(torch.ones(1, 1, 4, 4))[0, 0, 0].tolist()  # a corner sees four of nine pixels
        [0.4444444179534912, 0.6666666865348816, 0.6666666865348816, 0.4444444179534912]
        >>> BoxBlur((1, 4, 4), BoxBlur.Settings(border="valid")).measurement_shape
        (1, 2, 2)
    """

    class Settings(SettingsModel):
        """Settings of `box_blur`."""

        size: int = Field(3, ge=1, description="side of the neighbourhood in pixels, odd")
        border: Literal["zeros", "valid"] = Field(
            "zeros", description="zeros beyond the border, or only neighbourhoods that lie within the image"
        )

        @field_validator("size")
        @classmethod
        def _odd(cls, value: int) -> int:
            if value % 2 == 0:
                raise ValueError(f"size must be odd, got {value}; use {value - 1} or {value + 1}")
            return value

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        super().__init__(shape, settings)
        side = min(shape[1:])
        if settings.border == "valid" and settings.size > side:
            raise FlowpriorError(
                f"size must be at most the shorter side {side} of the image where border is 'valid', "
                f"got {settings.size}; use a smaller size, or border: zeros"
            )

    def _measured(self, side: int) -> int:
        return side if self.settings.border == "zeros" else side - self.settings.size + 1

    def _factor(self, side: int, like: Tensor) -> Tensor:
        index, reach = torch.arange(side, device=like.device), self.settings.size // 2
        middles = index if self.settings.border == "zeros" else index[reach : side - reach]
        near = (middles[:, None] - index[None, :]).abs() <= reach
        return near.to(like.dtype) / self.settings.size
