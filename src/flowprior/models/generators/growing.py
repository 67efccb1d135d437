"""How PGGAN is trained (Karras et al. 2018): small images first, larger ones faded in, and a Wasserstein loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu

from flowprior.models.generators.adversarial import Adversarial
from flowprior.models.generators.pggan import FIRST, PGGAN, colours, widths
from flowprior.models.networks.equalised import Equalised, with_deviation
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import Each, Examples, Player, Task, shared_gradients

#: Weights of the squared distance of a gradient's norm from one, and of a squared logit.
_PENALTY, _DRIFT = 10.0, 1e-3


@dataclass(frozen=True)
class Stage:
    """How far a network has grown.

    Attributes:
        level: doublings that it has, from 4x4 pixels on.
        part: of the last one, in [0, 1): as far as it is faded in; 1: it is whole.
    """

    level: int
    part: float


def stage_at(step: int, growing: float, levels: int) -> Stage:
    """The stage of a step, which follows from nothing else: each size is first faded in, then trained on, as long.

    Args:
        step: from 0 on.
        growing: steps until the full size is whole.
        levels: doublings in all.

    Example:
        >>> [stage_at(step, 8, 2) for step in (0, 2, 3, 8)]
        [Stage(level=0, part=1.0), Stage(level=1, part=0.0), Stage(level=1, part=0.5), Stage(level=2, part=1.0)]
    """
    place = 2 * levels * step / growing
    if place >= 2 * levels:
        return Stage(levels, 1.0)
    number, part = int(place), place - int(place)
    return Stage((number + 1) // 2, part if number % 2 else 1.0)


class Discriminator(nn.Module):
    """The generator's mirror: at each size colours can enter; averages halve the side; at 4x4 the batch's deviation.

    Args:
        shape: (C, H, W) of the images.
        width: as of the generator.
    """

    def __init__(self, shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        sizes = widths(shape[1], width)
        self.enter = nn.ModuleList(Equalised(shape[0], size, 1) for size in sizes)
        self.blocks = nn.ModuleList(
            nn.ModuleList([Equalised(after, after, 3, 1), Equalised(after, before, 3, 1)])
            for before, after in pairwise(sizes)
        )
        first = sizes[0]
        self.last = nn.ModuleList(
            [Equalised(first + 1, first, 3, 1), Equalised(first, first, FIRST), Equalised(first, 1, 1, gain=1.0)]
        )

    def forward(self, images: Tensor, stage: Stage) -> Tensor:
        """One logit per image (N,), of images in [-1, 1] at the stage's size."""
        h = _rectified(self.enter[stage.level](images))
        for level in range(stage.level, 0, -1):
            for layer in self.blocks[level - 1]:  # type: ignore[attr-defined]
                h = _rectified(layer(h))
            h = avg_pool2d(h, 2)
            if level == stage.level and stage.part < 1:
                h = torch.lerp(_rectified(self.enter[level - 1](avg_pool2d(images, 2))), h, stage.part)
        first, second, logit = self.last
        found: Tensor = logit(_rectified(second(_rectified(first(with_deviation(h))))))
        return found.flatten()


class GrowingTraining(Adversarial):
    """Wasserstein loss with gradient penalty, the discriminator first; sizes grow over the first part of the steps.

    The score is of images at full size throughout: it falls once the last size comes in, so what is kept is of a
    network that has grown, and `patience` would end a training before. Adam begins once: a layer that comes in later
    takes steps up to ten times too large for its first hundred or so, of weights whose deviation is one.
    """

    def __init__(self, model: PGGAN, settings: TrainingSettings, bits: int, task: Task | None = None) -> None:
        super().__init__(model, settings, bits, task)
        device = next(model.parameters()).device
        sizes = widths(model.shape[1], model.settings.width)
        self._levels = len(sizes) - 1
        self._judge = Discriminator(model.shape, model.settings.width).to(device)
        # Colours of the smaller sizes: they learn with the generator and are no part of it once it has grown.
        self._small = nn.ModuleList(colours(size, model.shape[0]) for size in sizes[:-1]).to(device)
        self._kept: tuple[Tensor, list[Tensor]] = (torch.zeros(()), [])
        self.begin(0)

    def begin(self, step: int) -> None:
        """Grow as far as the step says."""
        self._stage = stage_at(step, self.model.settings.growth * self.settings.steps, self._levels)

    def players(self) -> tuple[Player, ...]:
        """The discriminator, then the generator and with it the colours of smaller sizes."""
        return (
            Player("discriminator", self._judge, "discriminator"),
            Player("generator", self.model, "generator"),
            Player("small", self._small, "generator_small"),
        )

    def examples(self, pixels: Tensor, source: torch.Generator) -> Examples:
        """Images, a latent for each, and where between a real and a made image the gradient is looked at."""
        return (*super().examples(pixels, source), torch.rand(len(pixels), 1, 1, 1, generator=source))

    def gradients(
        self, player: str, parts: Sequence[Examples], scale: float, each: Each
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Of one player's loss, the other's weights as they are."""
        if player == "small":
            # Asked right after the generator, with which they share the loss.
            return self._kept
        with self.autocast(parts[0][0].device):
            if player == "discriminator":
                weights = list(self._judge.parameters())
                return shared_gradients(lambda seen: scale * self._of_discriminator(seen), weights, parts, each, True)
            own, small = list(self.model.parameters()), list(self._small.parameters())
            loss, found = shared_gradients(
                lambda seen: scale * self._of_generator(seen), [*own, *small], parts, each, True
            )
        self._kept = loss, found[len(own) :]
        return loss, found[: len(own)]

    def _of_discriminator(self, examples: Examples) -> Tensor:
        images, latents, places = examples
        real = self._seen(images)
        with torch.no_grad():
            made = self._made(latents).float()
        of_real, of_made = self._judge(real, self._stage).float(), self._judge(made, self._stage).float()
        between = torch.lerp(real, made, places).requires_grad_(True)
        (slope,) = torch.autograd.grad(self._judge(between, self._stage).float().sum(), between, create_graph=True)
        norm = (slope.float().square().flatten(1).sum(1) + 1e-12).sqrt()
        return (of_made - of_real + _PENALTY * (norm - 1).square() + _DRIFT * of_real.square()).sum()

    def _of_generator(self, examples: Examples) -> Tensor:
        return -self._judge(self._made(examples[1]), self._stage).float().sum()

    def _made(self, latents: Tensor) -> Tensor:
        """Images of the stage's size, in [-1, 1] and beyond."""
        level, part = self._stage.level, self._stage.part
        before, h = self.model.features(latents, level)
        found: Tensor = self._colours(level)(h)
        if part < 1:
            found = torch.lerp(_doubled(self._colours(level - 1)(before)), found, part)
        return found

    def _seen(self, images: Tensor) -> Tensor:
        """Images as the stage shows them: at its size, finer detail as far as it is faded in."""
        level, part = self._stage.level, self._stage.part
        found = avg_pool2d(2 * images - 1, 2 ** (self._levels - level))
        return torch.lerp(_doubled(avg_pool2d(found, 2)), found, part) if part < 1 else found

    def _colours(self, level: int) -> nn.Module:
        return self.model.to_colours if level == self._levels else self._small[level]


def _rectified(h: Tensor) -> Tensor:
    return leaky_relu(h, 0.2)


def _doubled(images: Tensor) -> Tensor:
    return interpolate(images, scale_factor=2.0, mode="nearest")
