"""DCGAN (Radford et al. 2015): convolutions that grow an image from a latent, trained against a discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from flowprior.errors import FlowpriorError
from flowprior.models.generators.adversarial import Adversarial
from flowprior.models.networks.norms import by_batch
from flowprior.registry import SettingsModel
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import Each, Examples, Player, Task, shared_gradients

SIDES = (16, 32, 64, 128)


class DCGAN(nn.Module):
    """The generator: 4x4 transposed convolutions that double the side and halve the channels, the last to a tanh.

    Asim et al. 2020 use it at 64x64 with 100 latent values: 3,576,704 weights. It is trained by its authors' Adam.
    """

    name: ClassVar[str] = "dcgan"
    trained_by: ClassVar[str] = "flowprior.models.generators.dcgan:AdversarialTraining"

    training_defaults: ClassVar[dict[str, Any]] = {
        "learning_rate": 2e-4,
        "beta1": 0.5,
        "schedule": "constant",
        "warmup": 0,
    }

    class Settings(SettingsModel):
        """Settings of `dcgan`."""

        latent: int = Field(100, ge=1, description="values of a latent")
        width: int = Field(64, ge=1, description="channels before the last convolution; twice as many for each before")

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        super().__init__()
        channels, height, width = shape
        if height != width or height not in SIDES:
            raise FlowpriorError(
                f"model 'dcgan' makes images of {', '.join(f'{side}x{side}' for side in SIDES)}, got {height}x{width}; "
                "set data.resolution to one of them"
            )
        self.shape, self.settings = shape, settings
        sizes = widths(height, settings.width)
        layers: list[nn.Module] = [_up(settings.latent, sizes[0], stride=1), nn.BatchNorm2d(sizes[0]), nn.ReLU()]
        for before, after in pairwise(sizes):
            layers += [_up(before, after), nn.BatchNorm2d(after), nn.ReLU()]
        self.network = nn.Sequential(*layers, _up(sizes[-1], channels), nn.Tanh())
        self.network.apply(start)
        # Asked for images it normalises by what it has seen in training, so that each latent is its own problem.
        self.eval()

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""
        return (self.settings.latent,)

    def decode(self, z: Tensor) -> Tensor:
        """Images G(z) (N, C, H, W) in [0, 1] of latents (N, latent)."""
        return 0.5 + 0.5 * self.network(z[:, :, None, None])


class Discriminator(nn.Sequential):
    """The generator's mirror: 4x4 convolutions that halve the side, LeakyReLU of .2, one logit per image.

    Args:
        shape: (C, H, W) of the images.
        width: channels after the first convolution.
    """

    def __init__(self, shape: tuple[int, int, int], width: int) -> None:
        sizes = widths(shape[1], width)[::-1]
        layers: list[nn.Module] = [_down(shape[0], sizes[0]), nn.LeakyReLU(0.2)]
        for before, after in pairwise(sizes):
            layers += [_down(before, after), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(sizes[-1], 1, 4, bias=False), nn.Flatten(0))
        self.apply(start)


class AdversarialTraining(Adversarial):
    """Binary cross-entropy, the discriminator first; the generator's loss is the one that does not saturate."""

    def __init__(self, model: DCGAN, settings: TrainingSettings, bits: int, task: Task | None = None) -> None:
        super().__init__(model, settings, bits, task)
        self._judge = Discriminator(model.shape, model.settings.width).to(next(model.parameters()).device)

    def players(self) -> tuple[Player, ...]:
        """The discriminator, then the generator."""
        return (
            Player("discriminator", self._judge, "discriminator"),
            Player("generator", self.model, "generator"),
        )

    def gradients(
        self, player: str, parts: Sequence[Examples], scale: float, each: Each
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Of one player's loss, the other's weights as they are."""
        if player == "generator":
            loss, module = self._of_generator, self.model
        else:
            loss, module = self._of_discriminator, self._judge
        with by_batch(self.model), by_batch(self._judge), self.autocast(parts[0][0].device):
            return shared_gradients(lambda examples: scale * loss(examples), list(module.parameters()), parts, each)

    def _of_discriminator(self, examples: Examples) -> Tensor:
        images, latents = examples
        with torch.no_grad():
            made = self.model.decode(latents)
        return (softplus(-self._judge(images).float()) + softplus(self._judge(made).float())).sum()

    def _of_generator(self, examples: Examples) -> Tensor:
        return softplus(-self._judge(self.model.decode(examples[1])).float()).sum()


def widths(side: int, width: int) -> list[int]:
    """Channels at 4x4, 8x8 and so on, up to half of a side.

    Example:
        >>> widths(64, 64)
        [512, 256, 128, 64]
    """
    doublings = side.bit_length() - 4
    return [width * 2**power for power in range(doublings, -1, -1)]


def start(layer: nn.Module) -> None:
    """The paper's first weights: N(0, .02^2), of batch norms around 1."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)


def _up(inputs: int, outputs: int, stride: int = 2) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 4, stride, stride - 1, bias=False)


def _down(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
