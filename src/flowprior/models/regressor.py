"""A network trained to answer one inverse problem: from a measurement to the image at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from flowprior.errors import FlowpriorError
from flowprior.evaluation.metrics import psnr
from flowprior.images.quantise import targets, to_pixels
from flowprior.models.networks.unet import UNet, check_sides
from flowprior.operators.base import Operator
from flowprior.operators.measuring import measure_images
from flowprior.randomness import generator
from flowprior.registry import SettingsModel
from flowprior.training.batches import channels_first
from flowprior.training.grids import PER_ROW, Grid
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import Each, Examples, Player, Task, Trainable, shared_gradients


class Regressor(nn.Module):
    """The least-squares image A_dagger y, corrected by a U-Net that sees it and A_adjoint y.

    Both are images whatever the measurement's shape. Where A hardly has an inverse, noise makes A_dagger y large: what
    is corrected is its part in [0, 1], and the adjoint shows what was measured without that noise.
    """

    name: ClassVar[str] = "regressor"
    trained_by: ClassVar[str] = "flowprior.models.regressor:SupervisedTraining"

    class Settings(SettingsModel):
        """Settings of `regressor`."""

        width: int = Field(24, ge=1, description="channels at full size; twice as many at each scale below")
        levels: int = Field(2, ge=0, description="how often the sides are halved")
        blocks: int = Field(1, ge=1, description="residual blocks at each scale, down and up")

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        check_sides(self.name, shape, settings.levels)
        super().__init__()
        self.shape, self.settings = shape, settings
        self.network = UNet(2 * shape[0], shape[0], settings.width, settings.levels, settings.blocks)

    def solve(self, operator: Operator, y: Tensor) -> Tensor:
        """Images (N, C, H, W), not clipped, from measurements (N, *operator.measurement_shape)."""
        return self(operator.A_dagger(y), operator.A_adjoint(y))

    def forward(self, dagger: Tensor, adjoint: Tensor) -> Tensor:
        """Images from the two that an operator makes of a measurement."""
        seen = torch.cat([dagger.clamp(-1, 2), adjoint], 1)
        found: Tensor = dagger.clamp(0, 1) + self.network(seen)
        return found


class SupervisedTraining(Trainable):
    """Mean squared error between images and what the model makes of their measurements; scored by PSNR.

    Measurements are made on the way, as those of the experiment are: the same targets, the same bit depth, new noise
    for each image of each step.
    """

    score = "psnr"
    lower_is_better = False
    layout = torch.channels_last

    def __init__(self, model: Regressor, settings: TrainingSettings, bits: int, task: Task | None = None) -> None:
        super().__init__(model, settings, bits, task)
        if task is None:
            raise FlowpriorError(f"model '{model.name}' is trained for one task, got none; name its task")
        if settings.noise_std:
            raise FlowpriorError(
                f"training.noise_std smooths a density, and model '{model.name}' has none, got {settings.noise_std}; "
                "leave it out: the task's noise_std is what its measurements have"
            )
        self._task = task

    def players(self) -> tuple[Player, ...]:
        """The model alone."""
        return (Player("regressor", self.model, "mse"),)

    def examples(self, pixels: Tensor, source: torch.Generator) -> Examples:
        """A_dagger y, A_adjoint y, and the image."""
        key, names = (int(torch.randint(2**62, (), generator=source)),), [str(place) for place in range(len(pixels))]
        images, task = pixels.permute(0, 2, 3, 1).numpy(), self._task
        y = measure_images(task.operator, images, names, task.settings, self.bits, key, task.name)
        return task.operator.A_dagger(y), task.operator.A_adjoint(y), targets(images, names, self.bits, key)

    def held_out(self, pixels: Tensor, source: torch.Generator) -> Examples:
        """The same of images that are not trained on."""
        return self.examples(pixels, source)

    def gradients(
        self, player: str, parts: Sequence[Examples], scale: float, each: Each
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Of the mean squared error of values in [0, 1]."""

        def loss(examples: Examples) -> Tensor:
            dagger, adjoint, images = examples
            with self.autocast(images.device):
                found = self.model(dagger, adjoint)
            return scale * (found.float() - images).square().flatten(1).mean(1).sum()

        return shared_gradients(loss, list(self.model.parameters()), parts, each)

    def scorer(self, model: Regressor, seed: tuple[object, ...]) -> Callable[[Examples], Tensor]:
        """PSNR in dB, as solutions are evaluated."""
        device = next(model.parameters()).device

        def score(examples: Examples) -> Tensor:
            dagger, adjoint, images = (tensor.to(device) for tensor in examples)
            return psnr(model(dagger, adjoint).clamp(0, 1), images, 1.0)

        return score

    @torch.no_grad()
    def grid(self, model: Regressor, pixels: np.ndarray, seed: int) -> Grid:
        """Validation images, what A_dagger makes of their measurements, and what the model does."""
        dagger, adjoint, images = self.held_out(channels_first(pixels[:PER_ROW]), generator(seed, "samples"))
        device = next(model.parameters()).device
        rows = (images, dagger, model(dagger.to(device), adjoint.to(device)))
        return Grid(np.stack([to_pixels(row) for row in rows]), {"rows": ["target", "pseudo_inverse", "solution"]})
