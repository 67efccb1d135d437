"""Super-resolution: the image is seen at a lower resolution."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.operators.base import Operator
from flowprior.registry import SettingsModel


class BlockMean(Operator):
    """(N, C, H, W) -> (N, C, H / factor, W / factor), the mean of each block (Oberlin & Verm 2021, super-resolution).

    Blocks do not overlap, so that the rows of A are orthogonal: the pseudo-inverse repeats each value over its block.

    Example:
        >>> import torch
        >>> mean = BlockMean((1, 2, 4), BlockMean.Settings(factor=2))
        >>> mean.A(torch.tensor([[[[0.0, 1.0, 2.0, 2.0], [2.0, 1.0, 2.0, 2.0]]]])).tolist()
        [[[[1.0, 2.0]]]]
    """

    class Settings(SettingsModel):
        """Settings of `block_mean`."""

        factor: int = Field(2, ge=1, description="side of a block in pixels; it divides the sides of the image")

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        super().__init__(shape, settings)
        factor, (_, height, width) = settings.factor, shape
        if height % factor or width % factor:
            raise FlowpriorError(
                f"factor must divide the sides of the image {height}x{width}, got {factor}; "
                "use one that does, or resize the images"
            )

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """A smaller image."""
        channels, height, width = self.shape
        return (channels, height // self.settings.factor, width // self.settings.factor)

    def A(self, x: Tensor) -> Tensor:
        """Average each block."""
        channels, height, width = self.measurement_shape
        factor = self.settings.factor
        return x.reshape(-1, channels, height, factor, width, factor).mean(dim=(3, 5))

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Share each value out among the pixels of its block."""
        return self._repeated(y) / self.settings.factor**2

    def A_dagger(self, y: Tensor) -> Tensor:
        """Repeat each value over its block."""
        return self._repeated(y)

    def _repeated(self, y: Tensor) -> Tensor:
        factor = self.settings.factor
        return y.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
