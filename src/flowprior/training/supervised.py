"""Training for one task: from measurements to the images that they are of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.evaluation.metrics import psnr
from flowprior.images.quantise import targets, to_pixels
from flowprior.operators.measuring import measure_images
from flowprior.randomness import generator
from flowprior.training.batches import channels_first
from flowprior.training.grids import PER_ROW, Grid
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import Each, Examples, Player, Task, Trainable, shared_gradients


class SupervisedTraining(Trainable):
    """Mean squared error between images and what the model makes of their measurements; scored by PSNR.

    Measurements are made on the way, as those of the experiment are: the same targets, the same bit depth, new noise
    for each image of each step. The model is called with the operator and measurements.
    """

    score = "psnr"
    lower_is_better = False
    layout = torch.channels_last

    def __init__(self, model: Any, settings: TrainingSettings, bits: int, task: Task | None = None) -> None:
        super().__init__(model, settings, bits, task)
        if task is None:
            raise FlowpriorError(f"model '{model.name}' is trained for one task, got none; name its task")
        if settings.noise_std:
            raise FlowpriorError(
                f"training.noise_std smooths a density, and model '{model.name}' has none, got {settings.noise_std}; "
                "leave it out: the task's noise_std is what its measurements have"
            )
        self.solved = task

    def players(self) -> tuple[Player, ...]:
        """The model alone."""
        return (Player(self.model.name, self.model, "mse"),)

    def examples(self, pixels: Tensor, source: torch.Generator) -> Examples:
        """Measurements, and the images."""
        key, names = (int(torch.randint(2**62, (), generator=source)),), [str(place) for place in range(len(pixels))]
        images, task = pixels.permute(0, 2, 3, 1).numpy(), self.solved
        y = measure_images(task.operator, images, names, task.settings, self.bits, key, task.name)
        return y, targets(images, names, self.bits, key)

    def held_out(self, pixels: Tensor, source: torch.Generator) -> Examples:
        """The same of images that are not trained on."""
        return self.examples(pixels, source)

    def answer(self, y: Tensor) -> Tensor:
        """The model's images of measurements, differentiable by its weights."""
        found: Tensor = self.model(self.solved.operator, y)
        return found

    def loss(self, examples: Examples) -> Tensor:
        """Mean squared error of values in [0, 1], per image (n,)."""
        y, images = examples
        with self.autocast(images.device):
            found = self.answer(y)
        return (found.float() - images).square().flatten(1).mean(1)

    def gradients(
        self, player: str, parts: Sequence[Examples], scale: float, each: Each
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Of the loss."""
        return shared_gradients(
            lambda examples: scale * self.loss(examples).sum(), list(self.model.parameters()), parts, each
        )

    def scorer(self, model: Any, seed: tuple[object, ...]) -> Callable[[Examples], Tensor]:
        """PSNR in dB, as solutions are evaluated."""
        device = next(model.parameters()).device

        def score(examples: Examples) -> Tensor:
            y, images = (tensor.to(device) for tensor in examples)
            return psnr(model(self.solved.operator, y).clamp(0, 1), images, 1.0)

        return score

    @torch.no_grad()
    def grid(self, model: Any, pixels: np.ndarray, seed: int) -> Grid:
        """Validation images, what A_dagger makes of their measurements, and what the model does."""
        y, images = self.held_out(channels_first(pixels[:PER_ROW]), generator(seed, "samples"))
        device, operator = next(model.parameters()).device, self.solved.operator
        rows = (images, operator.A_dagger(y), model(operator, y.to(device)))
        return Grid(np.stack([to_pixels(row) for row in rows]), {"rows": ["target", "pseudo_inverse", "solution"]})
