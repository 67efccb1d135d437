"""Deblurring: a Gaussian kernel."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.operators.separable import Separable
from flowprior.registry import SettingsModel

#: How far a kernel reaches where nothing is said, in standard deviations.
_REACH = 3


class GaussianBlur(Separable):
    """Convolution with a Gaussian whose values sum to one (Wei et al. 2022, deblurring with std 5 and 8 at 64 px).

    Wei et al. name neither kernel size nor border. The defaults are a kernel of three standard deviations to each
    side, and zeros beyond the border with measurements of the image's size: what a convolution with padding gives,
    and what the box blurs of the other papers do. `reflect` mirrors the image about its outermost pixels, which are
    not repeated; `valid` measures only where the whole kernel lies inside, so that measurements are smaller.

    A wide kernel removes nearly all frequencies: A_dagger gives back only those of which A leaves 1e-5 or more, since
    the others lie below the rounding of a measurement in float32. For noisy measurements that is still far too many.

    Example:
        >>> blur = GaussianBlur((1, 7, 7), GaussianBlur.Settings(std=1.0, border="valid"))
        >>> blur.A(torch.ones(1, 1, 7, 7)).shape, round(blur.A(torch.ones(1, 1, 7, 7)).item(), 5)
        (torch.Size([1, 1, 1, 1]), 1.0)
    """

    rtol: ClassVar[float] = 1e-5

    class Settings(SettingsModel):
        """Settings of `gaussian_blur`."""

        std: float = Field(5.0, gt=0, description="standard deviation of the kernel in pixels")
        size: int | None = Field(
            None, ge=1, description="side of the kernel in pixels, odd; null: three standard deviations to each side"
        )
        border: Literal["zeros", "reflect", "valid"] = Field(
            "zeros", description="beyond the border zeros, or the image's mirror image; valid: measured only inside"
        )

        @field_validator("size")
        @classmethod
        def _odd(cls, value: int | None) -> int | None:
            if value is not None and value % 2 == 0:
                raise ValueError(f"size must be odd, got {value}; use {value - 1} or {value + 1}")
            return value

    def __init__(self, shape: tuple[int, int, int], settings: Any) -> None:
        super().__init__(shape, settings)
        size, std = settings.size, settings.std
        #: Pixels of the kernel to each side of its middle.
        self.reach = math.ceil(_REACH * std) if size is None else size // 2
        self._total = math.fsum(math.exp(-0.5 * (place / std) ** 2) for place in range(-self.reach, self.reach + 1))
        if settings.border == "valid" and 2 * self.reach >= min(shape[1:]):
            raise FlowpriorError(
                f"a kernel of {2 * self.reach + 1} pixels lies nowhere inside an image of {shape[1]}x{shape[2]}; "
                "take border zeros or reflect, or a smaller size"
            )

    def _measured(self, side: int) -> int:
        return side - 2 * self.reach if self.settings.border == "valid" else side

    def _factor(self, side: int, like: Tensor) -> Tensor:
        places = torch.arange(side, device=like.device)
        if self.settings.border == "valid":
            return self._kernel(places[self.reach : side - self.reach, None] - places, like)
        if self.settings.border == "zeros" or side == 1:
            near = self._kernel(places[:, None] - places, like)
            return near if self.settings.border == "zeros" else torch.ones_like(near)
        # A line mirrored at both ends repeats; each pixel stands in it twice a period, those at the ends once.
        period = 2 * (side - 1)
        turns = [period * turn for turn in range(-(self.reach // period) - 1, self.reach // period + 2)]
        straight, mirrored = (
            torch.stack([self._kernel(places[:, None] - sign * places - turn, like) for turn in turns]).sum(0)
            for sign in (1, -1)
        )
        ends = (places == 0) | (places == side - 1)
        return straight + torch.where(ends, 0.0, mirrored)

    def _kernel(self, distance: Tensor, like: Tensor) -> Tensor:
        """The kernel's values at whole distances from its middle, of the type of `like`."""
        values = torch.exp(-0.5 * (distance.to(like.dtype) / self.settings.std).square()) / self._total
        return torch.where(distance.abs() <= self.reach, values, 0.0)
