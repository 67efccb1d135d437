"""Convolutions with an equalised learning rate, and the norms that go with them (Karras et al. 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

#: What keeps the variance through a ReLU.
GAIN = math.sqrt(2)
_SMALL = 1e-8
#: Images over which a deviation is taken.
_GROUP = 4


class Equalised(nn.Module):
    """A convolution whose weights are normal with deviation 1 and are scaled as they are used.

    So that Adam, whose steps do not follow the size of weights, moves those of all layers at one relative rate.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        size: of the kernel.
        padding: pixels of zeros around; size - 1 makes of one pixel a grid of the kernel's size.
        gain: standard deviation of what goes out, of inputs of deviation 1.
    """

    scale: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, padding: int = 0, gain: float = GAIN) -> None:
        super().__init__()
        self._padding = padding
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("scale", torch.tensor(gain / math.sqrt(inputs * size**2)))

    def forward(self, x: Tensor) -> Tensor:
        """Of images (N, inputs, H, W)."""
        return conv2d(x, self.weight * self.scale, self.bias, padding=self._padding)


def pixel_norm(h: Tensor) -> Tensor:
    """Every pixel's channels, or every latent's values (N, D, ...), at a mean square of one."""
    normed: Tensor = h * (h.square().mean(1, keepdim=True) + _SMALL).rsqrt()
    return normed


def with_deviation(h: Tensor) -> Tensor:
    """A channel more: how much the images of a group differ, so that a discriminator sees samples that are all alike.

    Args:
        h: (N, C, H, W); groups are of 4 images, or of a divisor of N below.
    """
    count, _, height, width = h.shape
    size = next(size for size in range(min(_GROUP, count), 0, -1) if count % size == 0)
    groups = h.reshape(size, count // size, *h.shape[1:])
    deviation = (groups.var(0, correction=0) + _SMALL).sqrt().mean((1, 2, 3))
    return torch.cat([h, deviation.repeat(size)[:, None, None, None].expand(-1, 1, height, width)], 1)
