"""A plain residual network: every layer sees images at their full size."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

#: How the maps between convolutions are normalised.
Norm = Literal["batch", "none"]


class ResNet(nn.Module):
    """Residual blocks of two 3x3 convolutions, then three 1x1 convolutions (Mardani et al. 2018).

    With 128 channels and two blocks it is the smaller baseline of Wei et al. 2022. The first skip is a 1x1
    convolution, since an image has fewer channels than a block. The last convolution starts at zero: a fresh network
    answers zero.

    With a batch norm an image's output depends on its batch as long as the module is in training mode, and on no other
    image in evaluation mode.

    Args:
        inputs: channels of what comes in.
        outputs: channels of what goes out, of the same height and width.
        width: channels of every layer between.
        blocks: residual blocks.
        norm: after each 3x3 convolution; none: it has a bias instead.
    """

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int, norm: Norm = "batch") -> None:
        super().__init__()
        sizes = [inputs] + [width] * (blocks - 1)
        self.blocks = nn.Sequential(*(NormedResidual(channels, width, norm) for channels in sizes))
        self.mix = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU())
        self.last = nn.Conv2d(width, outputs, 1)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, inputs, H, W) to (N, outputs, H, W)."""
        found: Tensor = self.last(self.mix(self.blocks(x)))
        return found


class NormedResidual(nn.Module):
    """Skip(x) plus two times convolution, norm and ReLU.

    Args:
        inputs: channels that come.
        width: channels that go; where they are others than come, the skip is a 1x1 convolution.
        norm: see `ResNet`.
    """

    def __init__(self, inputs: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.inner = nn.Sequential(*_layer(inputs, width, norm), *_layer(width, width, norm))
        self.skip = nn.Identity() if inputs == width else nn.Conv2d(inputs, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, width, H, W)."""
        found: Tensor = self.skip(x) + self.inner(x)
        return found


def _layer(inputs: int, outputs: int, norm: Norm) -> list[nn.Module]:
    normed = norm == "batch"
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not normed)
    return [convolution, *([nn.BatchNorm2d(outputs)] if normed else []), nn.ReLU()]
