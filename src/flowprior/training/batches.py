"""Batches of images, a function of identity and step alone: a resumed run sees the same ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flowprior.randomness import generator
from flowprior.training.trainable import Examples, Trainable

_INITIAL = 256


class Batches:
    """Training examples by step number.

    Each epoch visits every image once in an order of its own; a batch that an epoch's end cuts short is filled from
    the next. Mirror images, and every random number of the examples, follow from the step.

    Args:
        pixels: uint8 (N, H, W, C).
        trainable: makes examples of pixels; its settings say batch size and flips.
        key: identity of the run.
    """

    def __init__(self, pixels: np.ndarray, trainable: Trainable, key: tuple[object, ...]) -> None:
        self.pixels = channels_first(pixels)
        self.trainable, self.key = trainable, key
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> Examples:
        """The examples of one step."""
        settings = self.trainable.settings
        index = self._images(step * settings.batch, (step + 1) * settings.batch)
        source = generator(*self.key, "step", step)
        images = self.pixels[index]
        if settings.flips:
            mirrored = torch.rand(settings.batch, generator=source) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return self.trainable.examples(images, source)

    def first(self) -> Examples:
        """What a model is initialised from: the first batches, 256 images if they are smaller."""
        steps = range(max(1, _INITIAL // self.trainable.settings.batch))
        return tuple(torch.cat(same) for same in zip(*(self.at(step) for step in steps), strict=True))

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


def held_out_parts(pixels: np.ndarray, batch: int, trainable: Trainable, key: tuple[object, ...]) -> list[Examples]:
    """The validation images once, with random numbers that are the same each time."""
    examples = trainable.held_out(channels_first(pixels), generator(*key, "validation"))
    return list(zip(*(tensor.split(batch) for tensor in examples), strict=True))


def channels_first(pixels: np.ndarray) -> Tensor:
    """Uint8 (N, H, W, C) as a tensor (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
