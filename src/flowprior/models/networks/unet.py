"""A residual U-Net: images seen at several scales, from coarse to fine."""

from __future__ import annotations

from torch import Tensor, nn

from flowprior.errors import FlowpriorError


class UNet(nn.Module):
    """Ronneberger et al. 2015 with residual blocks and added skips, as Zhang et al. 2021 use it for restoration.

    No norms, so that an image's output depends on no other of its batch; no biases, so that the scale of an image
    passes through. The last convolution starts at zero: a fresh network answers zero.

    Args:
        inputs: channels of what comes in.
        outputs: channels of what goes out, of the same height and width.
        width: channels at full size; twice as many at each scale below.
        levels: how often the sides are halved; they must be divisible by 2^levels.
        blocks: residual blocks at each scale, on the way down and again on the way up.
    """

    def __init__(self, inputs: int, outputs: int, width: int, levels: int, blocks: int) -> None:
        super().__init__()
        self.levels = levels
        widths = [width * 2**level for level in range(levels + 1)]
        self.first = _conv(inputs, width)
        self.down = nn.ModuleList(_row(channels, blocks) for channels in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, 2, bias=False) for w in widths[:-1])
        self.bottom = _row(widths[-1], blocks)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2, bias=False) for w in widths[:-1])
        self.up = nn.ModuleList(_row(channels, blocks) for channels in widths[:-1])
        self.last = _conv(width, outputs)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, inputs, H, W) to (N, outputs, H, W)."""
        h = self.first(x)
        skips = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            h = blocks(h)
            skips.append(h)
            h = shrink(h)
        h = self.bottom(h)
        for blocks, grow, skip in reversed(list(zip(self.up, self.grow, skips, strict=True))):
            h = blocks(grow(h) + skip)
        found: Tensor = self.last(h)
        return found


class Residual(nn.Module):
    """x + conv(ReLU(conv(x))).

    Args:
        channels: that come and go.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_conv(channels, channels), nn.ReLU(), _conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        found: Tensor = x + self.inner(x)
        return found


def check_sides(name: str, shape: tuple[int, int, int], levels: int) -> None:
    """Raise if an image cannot be halved `levels` times.

    Raises:
        FlowpriorError: naming the size and what would fit.
    """
    factor, (_, height, width) = 2**levels, shape
    if height % factor or width % factor:
        raise FlowpriorError(
            f"model '{name}' with {levels} levels needs height and width divisible by {factor}, got {height}x{width}; "
            "resize the images or use fewer levels"
        )


def _row(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(channels) for _ in range(blocks)))


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
