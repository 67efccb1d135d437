"""How good a trained model's samples are: one number for flows and generators, without any other network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from flowprior.training.batches import held_out_parts
from flowprior.training.energy import sample_score
from flowprior.training.trainable import Trainable

_PART = 64


def sample_quality(model: Any, trainable: Trainable, pixels: np.ndarray, key: tuple[object, ...]) -> float:
    """The energy score of a model's samples on validation images: what a generator is trained by, whatever this is.

    Args:
        model: one that decodes latents.
        trainable: of its training, which makes examples of pixels.
        pixels: validation images, uint8 (N, H, W, C).
        key: identity of the run, as of `train`.
    """
    scores = sample_score(model, (*key, "validation"))
    parts = held_out_parts(pixels, _PART, trainable, key)
    return float(torch.cat([scores(examples[0]).double() for examples in parts]).mean())
