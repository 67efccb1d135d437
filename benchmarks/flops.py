"""Multiply-adds of convolutions, counted while a function runs: any program of torch, ours or a peer's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: A forward pass and the gradient by its input cost the same; a multiply-add is two operations.
PASSES, FLOPS = 2, 2


@dataclass(frozen=True)
class Count:
    """Multiply-adds of all convolutions.

    Attributes:
        useful: with values of the map.
        padded: with the zeros around it too, as textbooks count.
    """

    useful: int = 0
    padded: int = 0


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = Count()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            x, weight, _, stride, padding, dilation, transposed = args[:7]
            if transposed:
                raise NotImplementedError("transposed convolutions are not counted")
            pairs = x.shape[0] * weight.shape[0] * weight.shape[1]
            kernel, area = weight.shape[2:], out.shape[2:]
            useful = padded = pairs
            for axis, size in enumerate(x.shape[2:]):
                useful *= _inside(size, kernel[axis], stride[axis], padding[axis], dilation[axis], area[axis])
                padded *= kernel[axis] * area[axis]
            self.count = Count(self.count.useful + useful, self.count.padded + padded)
        return out


def _inside(size: int, kernel: int, stride: int, padding: int, dilation: int, outputs: int) -> int:
    """Pairs of an output and a tap along one axis that meet a value instead of padding."""
    places = (output * stride + tap * dilation - padding for output in range(outputs) for tap in range(kernel))
    return sum(0 <= place < size for place in places)


@torch.no_grad()
def multiply_adds(function: Callable[..., Any], *args: Any) -> Count:
    """Multiply-adds of the convolutions that a call makes.

    Example:
        >>> multiply_adds(torch.nn.Conv2d(3, 5, 1), torch.zeros(1, 3, 4, 4))
        Count(useful=240, padded=240)
    """
    with _Counter() as counter:
        function(*args)
    return counter.count


def per_image(log_prob: Callable[[torch.Tensor], Any], shape: Sequence[int]) -> Count:
    """Multiply-adds of one pass of a flow over one image of `shape` (C, H, W)."""
    return multiply_adds(log_prob, torch.full((1, *shape), 0.5))


def gflops(count: Count, images_per_second: float) -> float:
    """Operations of forward pass and input gradient, in GFLOP/s, at so many images per second.

    Example:
        >>> gflops(Count(useful=250_000_000, padded=300_000_000), 3.0)
        3.0
    """
    return PASSES * FLOPS * count.useful * images_per_second / 1e9
