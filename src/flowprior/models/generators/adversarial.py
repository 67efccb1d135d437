"""What trainings against a discriminator share: latents for their images, and a score that needs no likelihood."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from flowprior.models.capabilities import Decodes
from flowprior.training.energy import ENERGY_SCORE, sample_score
from flowprior.training.grids import Grid, samples
from flowprior.training.trainable import Examples, Trainable


class Adversarial(Trainable):
    """A generator has no likelihood, and the players' losses say how they stand to each other, not how good images are.

    So what is kept is what has the best energy score on validation images.
    """

    score = ENERGY_SCORE
    # What a discriminator says of an image depends on its batch.
    divisible = False

    def examples(self, pixels: Tensor, source: torch.Generator) -> Examples:
        """Images, and a latent for each."""
        images = super().examples(pixels, source)
        return (*images, torch.randn(len(pixels), *self.model.latent_shape, generator=source))

    def scorer(self, model: Decodes, seed: tuple[object, ...]) -> Callable[[Examples], Tensor]:
        """The energy score of the model's samples."""
        device = next(model.parameters()).device  # type: ignore[attr-defined]
        scores = sample_score(model, seed)
        return lambda examples: scores(examples[0].to(device))

    def grid(self, model: Decodes, pixels: np.ndarray, seed: int) -> Grid:
        """Samples over temperatures."""
        return samples(model, seed)
