"""Batches of dequantised images, a function of identity and step alone: a resumed run sees the same ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from flowprior.images.quantise import dequantise
from flowprior.randomness import generator
from flowprior.training.settings import TrainingSettings

_INITIAL = 256


class Batches:
    """Training batches by step number.

    Each epoch visits every image once in an order of its own; a batch that an epoch's end cuts short is filled from
    the next. Mirror images and noise follow from the step.

    Args:
        pixels: uint8 (N, H, W, C).
        bits: grey levels per channel, 2^bits.
        settings: batch size, flips and added noise.
        key: identity of the run.
    """

    def __init__(self, pixels: np.ndarray, bits: int, settings: TrainingSettings, key: tuple[object, ...]) -> None:
        self.pixels = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        self.bits, self.settings, self.key = bits, settings, key
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> Tensor:
        """The batch of one step: float32 (batch, C, H, W), in [0, 1) but for added noise."""
        count = self.settings.batch
        index = self._images(step * count, (step + 1) * count)
        source = generator(*self.key, "step", step)
        images = self.pixels[index]
        if self.settings.flips:
            mirrored = torch.rand(count, generator=source) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        images = dequantise(images, self.bits, torch.rand(images.shape, generator=source))
        if self.settings.noise_std:
            images = images + self.settings.noise_std * torch.randn(images.shape, generator=source)
        return images

    def first(self) -> Tensor:
        """The images that a flow's norms are set from: the first batches, 256 images if they are smaller."""
        return torch.cat([self.at(step) for step in range(max(1, _INITIAL // self.settings.batch))])

    def _images(self, start: int, stop: int) -> Tensor:
        """Numbers of the images at positions [start, stop) of the endless row of epochs."""
        parts = []
        while start < stop:
            epoch, place = divmod(start, len(self.pixels))
            parts.append(self._order_of(epoch)[place : place + stop - start])
            start += len(parts[-1])
        return torch.cat(parts)

    def _order_of(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(len(self.pixels), generator=generator(*self.key, "epoch", epoch))
        return self._order


def validation_batches(pixels: np.ndarray, batch: int, bits: int, key: tuple[object, ...]) -> Iterator[Tensor]:
    """The validation images once, with noise that is the same each time."""
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    source = generator(*key, "validation")
    noise = torch.rand(images.shape, generator=source)
    for part, spread in zip(images.split(batch), noise.split(batch), strict=True):
        yield dequantise(part, bits, spread)
