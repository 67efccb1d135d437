"""What a model gives to be trained: its players, its losses, its score. The loop does the rest."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from flowprior.errors import FlowpriorError
from flowprior.images.quantise import dequantise
from flowprior.operators.base import Operator
from flowprior.operators.task import TaskSettings
from flowprior.training.grids import Grid
from flowprior.training.settings import TrainingSettings

#: `map` over the cores that share a batch.
Each = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
#: What a loss is computed from, one row per image: images first, and what goes with them.
Examples = tuple[Tensor, ...]


@dataclass(frozen=True)
class Player:
    """Weights with an optimiser of their own.

    Attributes:
        name: in saved states.
        module: whose parameters they are.
        loss: what its loss is called in the history.
    """

    name: str
    module: nn.Module
    loss: str


@dataclass(frozen=True)
class Task:
    """The inverse problem that a model is trained for.

    Attributes:
        name: in the experiment.
        operator: A.
        settings: its noise and the kind of measurement.
    """

    name: str
    operator: Operator
    settings: TaskSettings


class Trainable(ABC):
    """One training of one model. A model's class names its own by `trained_by = "module:Class"`.

    In each step every player moves once, in their order, by the gradient of its own loss on the same examples. The
    model is one of the players: its weights are averaged, and kept where the score is best.

    Args:
        model: what is trained.
        settings: of the training.
        bits: grey levels per channel, 2^bits.
        task: what it is trained for; None: for images as they are.
    """

    #: What the validation's mean is called, in the history and in checkpoints.
    score: ClassVar[str]
    lower_is_better: ClassVar[bool] = True
    #: Whether an image's loss depends on no other of its batch, so that cores may share one; may follow from settings.
    divisible: bool = True
    #: How the model's weights are to lie in memory.
    layout: torch.memory_format = torch.contiguous_format

    def __init__(self, model: Any, settings: TrainingSettings, bits: int, task: Task | None = None) -> None:
        self.model, self.settings, self.bits, self.task = model, settings, bits, task

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells this training from others of the same model, images and settings."""
        return () if self.task is None else (self.task.name, type(self.task.operator).__name__, self.task.settings)

    @abstractmethod
    def players(self) -> tuple[Player, ...]:
        """Who learns, in the order of their moves."""

    def examples(self, pixels: Tensor, source: torch.Generator) -> Examples:
        """What one step learns from.

        Args:
            pixels: uint8 (n, C, H, W).
            source: of every random number; the step's own.
        """
        images = dequantise(pixels, self.bits, torch.rand(pixels.shape, generator=source))
        if self.settings.noise_std:
            images = images + self.settings.noise_std * torch.randn(images.shape, generator=source)
        return (images,)

    def held_out(self, pixels: Tensor, source: torch.Generator) -> Examples:
        """What the score is computed of: the same each time, without added noise."""
        return (dequantise(pixels, self.bits, torch.rand(pixels.shape, generator=source)),)

    def initialise(self, examples: Examples) -> None:
        """Set what starts from data, once, before the first step; most models start from their weights alone."""
        return

    def begin(self, step: int) -> None:
        """Told before every step which it is; what is to change on the way follows from it alone, not from a count."""
        return

    @abstractmethod
    def gradients(
        self, player: str, parts: Sequence[Examples], scale: float, each: Each
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """`scale` times a player's loss summed over all examples, and its gradients by the player's parameters.

        Args:
            player: whose move it is.
            parts: the examples, one part for each core.
            scale: such as one over the number of images.
            each: maps over the cores.
        """

    @abstractmethod
    def scorer(self, model: Any, seed: tuple[object, ...]) -> Callable[[Examples], Tensor]:
        """How held-out examples are scored, without gradient: one value per image (n,).

        Args:
            model: one like `self.model`, with the weights that are asked.
            seed: of what is random, the same each time.
        """

    def autocast(self, device: torch.device) -> torch.autocast:
        """The precision in which the settings want networks to run."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def loss_of(self, total: Tensor) -> Tensor:
        """A loss (a mean over a batch) in the unit of the history."""
        return total

    def score_of(self, mean: Tensor) -> Tensor:
        """The score, from the mean of `scorer`'s values."""
        return mean

    @abstractmethod
    def grid(self, model: Any, pixels: np.ndarray, seed: int) -> Grid:
        """A sheet of pictures that shows what was learned.

        Args:
            model: as for `scorer`.
            pixels: validation images, uint8 (N, H, W, C).
            seed: of what is random.
        """


def shared_gradients(
    loss: Callable[[Examples], Tensor],
    parameters: Sequence[Tensor],
    parts: Sequence[Examples],
    each: Each,
    unused: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """A loss and its gradients by autograd, each part of the examples on a core of its own, added up.

    Args:
        loss: of examples.
        parameters: by which.
        parts: the examples.
        each: maps over the cores.
        unused: whether parameters that the loss does not see have the gradient zero; else they are an error.
    """

    def share(examples: Examples) -> tuple[Tensor, tuple[Tensor, ...]]:
        value = loss(examples)
        return value.detach(), torch.autograd.grad(value, parameters, allow_unused=unused, materialize_grads=unused)

    losses, shares = zip(*each(share, parts), strict=True)
    return torch.stack(losses).sum(), [torch.stack(same).sum(0) for same in zip(*shares, strict=True)]


def trainable_of(model: Any, settings: TrainingSettings, bits: int, task: Task | None = None) -> Trainable:
    """The training that a model's class names.

    Raises:
        FlowpriorError: it names none.
    """
    place = getattr(model, "trained_by", None)
    if place is None:
        raise FlowpriorError(f"{type(model).__name__} is not trained; give a model whose class says `trained_by`")
    module, _, name = place.partition(":")
    found: Trainable = getattr(importlib.import_module(module), name)(model, settings, bits, task)
    return found
