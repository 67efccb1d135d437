"""The flow of Chávez 2021: couplings alone, down to 1x1 pixels, without invertible 1x1 convolutions."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, relu

from flowprior.errors import FlowpriorError
from flowprior.models.flows.base import Flow
from flowprior.models.flows.layers import ActNorm, Bijection, Chain, Coupling, Squeeze, sigmoid_affine


class ChavezFlow(Flow):
    """Squeezes down to 1x1; K steps at 4x4 and larger, 2K below; half split off after the 4x4 and 2x2 levels.

    At 32x32 with K 2 and width 512: 14 coupling layers, 32.7 M parameters (figure 1 and appendix A of Chávez 2021).
    """

    name = "chavez"
    low, high = -1.0, 1.0

    class Settings(Flow.Settings):
        """Settings of `chavez`."""

        steps: int = Field(2, ge=1, description="K: flow steps at 4x4 and larger; twice as many at 2x2 and 1x1")
        hidden: int = Field(512, ge=1, description="channels inside the coupling networks")

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        channels, height, width = shape
        if height != width or height < 2 or height & (height - 1):
            raise FlowpriorError(
                f"flow 'chavez' needs square images with a power of two as side, got {height}x{width}; resize them"
            )
        levels: list[Bijection] = []
        carried = []
        swap = False
        side = height
        while side > 1:
            side //= 2
            channels *= 4
            parts: list[Bijection] = [Squeeze()]
            for _ in range(settings.steps if side >= 4 else 2 * settings.steps):
                network = ChavezNetwork(channels // 2, settings.hidden, channels, side)
                parts += [ActNorm(channels), Coupling(network, sigmoid_affine, swap=swap)]
                swap = not swap
            levels.append(Chain(parts))
            if side > 1:
                channels = channels // 2 if side in (2, 4) else channels
                carried.append(channels)
        super().__init__(shape, settings, levels, carried)


class ChavezNetwork(nn.Module):
    """Two convolutions whose kernel follows the spatial size, so that small maps are seen whole.

    Args:
        inputs: channels of the kept half.
        hidden: channels in between.
        outputs: channels of the answer: scales even, shifts odd.
        side: height and width of the map.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, side: int) -> None:
        super().__init__()
        self.first = SizedConv(inputs, hidden, side)
        self.norm = ActNorm(hidden)
        self.last = SizedConv(hidden, outputs, side)
        self.log_scale = nn.Parameter(torch.zeros(1, outputs, 1, 1))
        nn.init.normal_(self.first.convolution.weight, std=0.01)
        nn.init.zeros_(self.last.convolution.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map the kept half (N, inputs, side, side) to (N, outputs, side, side)."""
        hidden = relu(self.norm(self.first(x))[0])
        return self.last(hidden) * (3.0 * self.log_scale).exp()


class SizedConv(nn.Module):
    """A convolution that keeps the map's size: padded from 8x8 on, with depth-to-space at 4x4 and 2x2, 1x1 at 1x1."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.spread = side in (2, 4)
        kernel = {1: 1, 2: 2}.get(side, 3)
        self.convolution = nn.Conv2d(
            inputs, 4 * outputs if self.spread else outputs, kernel, padding=1 if side >= 8 else 0
        )
        assert self.convolution.bias is not None
        nn.init.zeros_(self.convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; (N, inputs, side, side) -> (N, outputs, side, side)."""
        y = self.convolution(x)
        return pixel_shuffle(y, 2) if self.spread else y
