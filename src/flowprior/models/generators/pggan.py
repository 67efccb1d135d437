"""PGGAN (Karras et al. 2018): a generator that grows from 4x4 pixels to the images' size while it is trained."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from flowprior.errors import FlowpriorError
from flowprior.models.networks.equalised import Equalised, pixel_norm
from flowprior.registry import SettingsModel

#: Side of the first grid.
FIRST = 4
_SMALLEST = 8


class PGGAN(nn.Module):
    """A latent on the sphere, 4x4 pixels of it, then nearest-neighbour doublings with two 3x3 convolutions each.

    Asim et al. 2020 use it at 128x128: 13,625,392 weights, biases and scales, with the latent 13,625,904. Its last
    layer is linear. It is trained by its authors' loss, Adam and averages (`flowprior.models.generators.growing`).
    """

    name: ClassVar[str] = "pggan"
    trained_by: ClassVar[str] = "flowprior.models.generators.growing:GrowingTraining"

    training_defaults: ClassVar[dict[str, Any]] = {
        "learning_rate": 1e-3,
        "beta1": 0.0,
        "beta2": 0.99,
        "schedule": "constant",
        "warmup": 0,
        "ema": 0.999,
    }

    class Settings(SettingsModel):
        """Settings of `pggan`."""

        latent: int = Field(512, ge=1, description="values of a latent")
        width: int = Field(
            512, ge=1, description="channels at 4x4 and 8x8; half as many after each doubling from there"
        )
        growth: float = Field(
            0.5, gt=0, le=1, description="part of the training's steps in which it grows to its full size"
        )

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        super().__init__()
        channels, height, width = shape
        if height != width or height < _SMALLEST or height & (height - 1):
            raise FlowpriorError(
                f"model 'pggan' makes square images whose side is a power of two from {_SMALLEST} on, got "
                f"{height}x{width}; set data.resolution to 16, 32, 64 or 128, say"
            )
        self.shape, self.settings = shape, settings
        sizes = widths(height, settings.width)
        first = nn.ModuleList([Equalised(settings.latent, sizes[0], FIRST, FIRST - 1), _same(sizes[0], sizes[0])])
        doublings = (nn.ModuleList([_same(before, after), _same(after, after)]) for before, after in pairwise(sizes))
        self.blocks = nn.ModuleList([first, *doublings])
        self.to_colours = colours(sizes[-1], channels)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""
        return (self.settings.latent,)

    def decode(self, z: Tensor) -> Tensor:
        """Images G(z) (N, C, H, W) of latents (N, latent), around [0, 1] and not clipped."""
        images: Tensor = self.to_colours(self.features(z, len(self.blocks) - 1)[1])
        return 0.5 + 0.5 * images

    def features(self, z: Tensor, level: int) -> tuple[Tensor | None, Tensor]:
        """What colours are made of after `level` doublings, and what they were made of one doubling before."""
        before, h = None, pixel_norm(z)[:, :, None, None]
        for number, block in enumerate(self.blocks[: level + 1]):
            before = h if number else None
            if number:
                h = interpolate(h, scale_factor=2.0, mode="nearest")
            for layer in block:  # type: ignore[attr-defined]
                h = pixel_norm(leaky_relu(layer(h), 0.2))
        return before, h


def widths(side: int, width: int) -> list[int]:
    """Channels at 4x4, 8x8 and so on, up to a side.

    Example:
        >>> widths(128, 512)
        [512, 512, 256, 128, 64, 32]
    """
    sides = [FIRST << power for power in range(side.bit_length() - FIRST.bit_length() + 1)]
    return [max(1, min(width, _SMALLEST * width // each)) for each in sides]


def colours(inputs: int, channels: int) -> Equalised:
    """From features to colours in [-1, 1], linear."""
    return Equalised(inputs, channels, 1, gain=1.0)


def _same(inputs: int, outputs: int) -> Equalised:
    return Equalised(inputs, outputs, 3, 1)
