"""The Deep Decoder (Heckel & Hand 2019): a small network that makes one image, with weights of its own for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, interpolate

from flowprior.models.flows.once import once
from flowprior.randomness import generator

#: Side of the first grid, where nothing else is asked.
_FIRST = 4
#: The fixed input is uniform below this, as Heckel & Hand draw it.
_INPUT = 0.1
#: A sum is nothing but rounding where it is so much smaller than its terms.
_CANCELLED = 1e-4


class DeepDecoder:
    """Layers of 1x1 convolution, bilinear doubling, ReLU and norm; then a 1x1 convolution to an image and a sigmoid.

    A network for N images at once: weights are rows (N, `parameters`), so that a batched search takes them for its
    iterates. A norm is over the pixels of one channel of one image, since every image is its own problem.

    With 250 channels and 4 layers it has 253,753 weights at 64x64, with 700 and 5 layers 2,462,603 at 128x128: the
    overparameterised ones of Asim et al. 2020, who add the fixed input of the second, 11,200 values.

    Args:
        shape: (C, H, W) of the images; sides that are not divisible round up on the way down.
        width: channels.
        layers: each doubles the sides; None: as many as leave a first grid of 4 pixels.
    """

    def __init__(self, shape: tuple[int, int, int], width: int, layers: int | None = None) -> None:
        channels, height, width_of_image = shape
        self.shape, self.width = shape, width
        if layers is None:
            layers = max(1, int(math.log2(max(min(height, width_of_image) / _FIRST, 1))))
        self.sides = [
            (math.ceil(height / 2**power), math.ceil(width_of_image / 2**power)) for power in range(layers, -1, -1)
        ]
        # Of each layer: matrix and bias of the convolution, scale and shift of the norm.
        self._sizes = [width * width, width, width, width] * layers + [channels * width, channels]
        self.parameters = sum(self._sizes)

    def start(self, keys: Sequence[tuple[object, ...]]) -> tuple[Tensor, Tensor]:
        """Fixed inputs (N, width, h, w) and first weights (N, parameters), one row for each identity.

        Convolutions begin uniform within 1/sqrt(width), as torch begins them, norms at the identity.
        """
        height, width = self.sides[0]
        inputs, weights = [], []
        for key in keys:
            source = generator(*key)
            inputs.append(_INPUT * torch.rand(self.width, height, width, generator=source))
            weights.append((2 * torch.rand(self.parameters, generator=source) - 1) / self.width**0.5)
        rows = torch.stack(weights)
        for layer in range(len(self.sides) - 1):
            _, _, scale, shift = rows.split(self._sizes, 1)[4 * layer : 4 * layer + 4]
            scale.fill_(1.0)
            shift.zero_()
        return torch.stack(inputs), rows

    def images(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1].

        Args:
            weights: (N, parameters).
            inputs: (N, width, h, w).
        """
        # One split: its gradient is written once, where that of slices would be a whole row for each.
        parts, count, k = weights.split(self._sizes, 1), len(weights), self.width
        h = inputs
        for layer, (before, after) in enumerate(pairwise(self.sides)):
            matrix, bias, scale, shift = parts[4 * layer : 4 * layer + 4]
            h = _Shift.apply(matrix.view(count, k, k) @ h.reshape(count, k, -1), bias)
            h = _enlarged(h.view(count * k, *before), after).relu()
            # Every channel of every image is one of a single batch norm's.
            h = batch_norm(h[None], None, None, scale.reshape(-1), shift.reshape(-1), training=True)
        matrix, bias = parts[-2:]
        h = torch.baddbmm(bias[:, :, None], matrix.view(count, -1, k), h.reshape(count, k, -1))
        return h.sigmoid().view(count, *self.shape)

    def values_per_image(self) -> int:
        """What autograd keeps of one image on the way: a layer's ReLU and norm, and as much again in passing."""
        return 3 * self.width * sum(height * width for height, width in self.sides[1:])


_INSTEAD = "search by first derivatives"


class _Shift(torch.autograd.Function):
    """Maps (N, k, S) plus a bias (N, k), whose gradient is zero where only rounding makes it another.

    The norm takes a bias away from every channel that the ReLU leaves whole. Adam would follow the sign of what is
    left of such a gradient as fast as any other, and an image alone would go another way than in a batch.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, bias: Tensor) -> Tensor:
        """Their sum."""
        return maps + bias[:, :, None]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Of maps and bias."""
        total, terms = gradient.sum(2), gradient.abs().sum(2)
        of_bias = torch.where(total.abs() > _CANCELLED * terms, total, 0.0)
        return (
            once(gradient, "the Deep Decoder", gradient, instead=_INSTEAD),
            once(of_bias, "the Deep Decoder", gradient, instead=_INSTEAD),
        )


def _enlarged(maps: Tensor, sides: tuple[int, int]) -> Tensor:
    """Maps (M, h, w) at larger sides, bilinear: two products of matrices, a sixth of `interpolate`'s time on a CPU."""
    rows, columns = (_weights(maps, old, new) for old, new in zip(maps.shape[1:], sides, strict=True))
    across = (maps.reshape(-1, maps.shape[2]) @ columns.T).view(len(maps), -1, sides[1])
    return rows @ across


def _weights(like: Tensor, old: int, new: int) -> Tensor:
    """(new, old): how bilinear interpolation mixes old values into new ones."""
    one = torch.eye(old, dtype=like.dtype, device=like.device)[None]
    return interpolate(one, size=new, mode="linear", align_corners=False)[0].T
