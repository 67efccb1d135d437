"""A network trained to take away white noise of any level: the prior of plug-and-play methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from flowprior.errors import FlowpriorError
from flowprior.evaluation.metrics import psnr
from flowprior.images.quantise import targets, to_pixels
from flowprior.models.networks.norms import by_batch
from flowprior.models.networks.proximal import NetworkSettings, check_network, proximal_network
from flowprior.randomness import generator
from flowprior.registry import NoiseStd
from flowprior.training.batches import channels_first
from flowprior.training.grids import PER_ROW, Grid
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import Each, Examples, Player, Task, Trainable, shared_gradients


class Denoiser(nn.Module):
    """The noisy image, corrected by a network that sees it and the noise's level as a channel more.

    One network for all levels, as of Zhang et al. 2021 for plug-and-play restoration. It knows no task: every method
    that asks for an image under white noise may ask it, and `network` is a proximal map to start others from.
    """

    name: ClassVar[str] = "denoiser"
    trained_by: ClassVar[str] = "flowprior.models.denoiser:DenoisingTraining"

    class Settings(NetworkSettings):
        """Settings of `denoiser`."""

        max_std: NoiseStd = Field(
            0.5, gt=0, description="largest noise that it learns, on values in [0, 1]; asked for more, it takes this"
        )

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        check_network(self.name, shape, settings)
        super().__init__()
        self.shape, self.settings = shape, settings
        self.network = proximal_network(settings.network, shape[0] + 1, shape[0], settings)
        # Asked for images it normalises by what it has seen in training, so that each image is its own problem.
        self.eval()

    def denoise(self, x: Tensor, std: float | Tensor) -> Tensor:
        """Images (N, C, H, W), not clipped; see `capabilities.Denoises`."""
        levels = torch.as_tensor(std, device=x.device, dtype=x.dtype).reshape(-1, 1, 1, 1)
        found: Tensor = self(x, levels.expand(len(x), 1, 1, 1))
        return found

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        """Images (N, C, H, W) from noisy ones and their noise's levels (N, 1, 1, 1)."""
        channel = levels.clamp(max=self.settings.max_std).expand(-1, 1, *x.shape[2:])
        found: Tensor = x + self.network(torch.cat([x, channel], 1))
        return found


#: Of the largest level: below it errors weigh alike.
_SMALL = 0.1


class DenoisingTraining(Trainable):
    """Mean squared error between images and what the model makes of them with noise, lighter for stronger noise.

    The noise of each image has a level of its own, uniform from zero to the model's `max_std`; the score is the PSNR
    at half of that, always the same noise. Errors grow with the level: weighed alike, those under strong noise decide
    alone, and at little noise the network costs more than it gains. Divided by the level (measured at 16x16, 800 steps,
    max_std .3: PSNR at noise .005, .02 and .2 is 37.6, 35.1 and 24.4 dB; not divided 33.8, 32.9 and 24.4).
    """

    score = "psnr"
    lower_is_better = False
    layout = torch.channels_last

    def __init__(self, model: Denoiser, settings: TrainingSettings, bits: int, task: Task | None = None) -> None:
        super().__init__(model, settings, bits, task)
        if settings.noise_std:
            raise FlowpriorError(
                f"training.noise_std smooths a density, and model '{model.name}' has none, got {settings.noise_std}; "
                "leave it out: settings.max_std is the noise that it learns"
            )
        self.divisible = not model.settings.by_batch

    def players(self) -> tuple[Player, ...]:
        """The model alone."""
        return (Player("denoiser", self.model, "weighted_mse"),)

    def examples(self, pixels: Tensor, source: torch.Generator) -> Examples:
        """Noisy images, their levels (n, 1, 1, 1), and the images."""
        return self._noisy(pixels, self.model.settings.max_std * torch.rand(len(pixels), generator=source), source)

    def held_out(self, pixels: Tensor, source: torch.Generator) -> Examples:
        """The same at the level in the middle."""
        return self._noisy(pixels, torch.full((len(pixels),), 0.5 * self.model.settings.max_std), source)

    def _noisy(self, pixels: Tensor, levels: Tensor, source: torch.Generator) -> Examples:
        key, names = (int(torch.randint(2**62, (), generator=source)),), [str(place) for place in range(len(pixels))]
        images = targets(pixels.permute(0, 2, 3, 1).numpy(), names, self.bits, key)
        levels = levels[:, None, None, None]
        return images + levels * torch.randn(images.shape, generator=source), levels, images

    def gradients(
        self, player: str, parts: Sequence[Examples], scale: float, each: Each
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Of the weighted mean squared error of values in [0, 1]; at the level in the middle the weight is one."""
        largest = self.model.settings.max_std

        def loss(examples: Examples) -> Tensor:
            noisy, levels, images = examples
            with self.autocast(images.device):
                found = self.model(noisy, levels)
            errors = (found.float() - images).square().flatten(1).mean(1)
            return scale * (errors * (0.5 + _SMALL) * largest / (levels.flatten() + _SMALL * largest)).sum()

        # A norm by the batch changes what all threads see: then there is one.
        with nullcontext() if self.divisible else by_batch(self.model):
            return shared_gradients(loss, list(self.model.parameters()), parts, each)

    def scorer(self, model: Denoiser, seed: tuple[object, ...]) -> Callable[[Examples], Tensor]:
        """PSNR in dB, as solutions are evaluated."""
        device = next(model.parameters()).device

        def score(examples: Examples) -> Tensor:
            noisy, levels, images = (tensor.to(device) for tensor in examples)
            return psnr(model(noisy, levels).clamp(0, 1), images, 1.0)

        return score

    @torch.no_grad()
    def grid(self, model: Denoiser, pixels: np.ndarray, seed: int) -> Grid:
        """Validation images, the same with noise of the level in the middle, and what the model makes of that."""
        noisy, levels, images = self.held_out(channels_first(pixels[:PER_ROW]), generator(seed, "samples"))
        device = next(model.parameters()).device
        rows = (images, noisy, model(noisy.to(device), levels.to(device)))
        facts = {"rows": ["target", "noisy", "denoised"], "noise_std": float(levels[0])}
        return Grid(np.stack([to_pixels(row) for row in rows]), facts)
