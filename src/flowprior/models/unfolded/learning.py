"""How an unfolded algorithm learns its task: end to end, from measurements to images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowprior.images.quantise import to_pixels
from flowprior.models.flows.base import bits_per_dim
from flowprior.models.flows.evaluators import NotFoldableError, WeightedFlow, folded
from flowprior.models.flows.evaluators.program import pixels_per_weight
from flowprior.models.flows.learning import LEAST_PIXELS
from flowprior.models.networks.norms import by_batch
from flowprior.models.unfolded.model import Unfolded
from flowprior.models.unfolded.proximal import FlowProximal
from flowprior.randomness import generator
from flowprior.training.batches import channels_first
from flowprior.training.grids import PER_ROW, Grid
from flowprior.training.settings import TrainingSettings
from flowprior.training.supervised import SupervisedTraining
from flowprior.training.trainable import Each, Examples, Task, shared_gradients

#: Standard deviation of the latents of samples that show what a fold's flow has become.
_TEMPERATURE = 0.7


class UnfoldedTraining(SupervisedTraining):
    """Mean squared error of the last fold, and what `likelihood` adds; scored by PSNR."""

    model: Unfolded

    def __init__(self, model: Unfolded, settings: TrainingSettings, bits: int, task: Task | None = None) -> None:
        super().__init__(model, settings, bits, task)
        self.divisible = not model.by_batch
        #: Proximal map -> its flow as the kernel computes it.
        self._weighted = _weighted_flows(model, settings)

    @property
    def identity(self) -> tuple[object, ...]:
        """As of any task, and the weights it began with."""
        return (*super().identity, self.model.begun)

    def initialise(self, examples: Examples) -> None:
        """Set the flows' norms from images, where they are not another model's."""
        if self.model.begun is None:
            for one in self.model.maps:
                one.initialise(examples[1])  # type: ignore[operator]

    def by_layers(self) -> None:
        """Ask the flows' own layers from now on, whoever would be faster."""
        self._weighted = {}

    def answer(self, y: Tensor) -> Tensor:
        """The last fold's images, the flows computed by the kernel where that is faster."""
        *_, found = self.model.folds(self.solved.operator, y, self._asked)
        return found

    def loss(self, examples: Examples) -> Tensor:
        """Per image (n,)."""
        error, weight = super().loss(examples), self.model.settings.likelihood
        if not weight:
            return error
        images, dimensions = examples[1], math.prod(self.model.shape)
        flows = [self._weighted.get(one, one.flow) for one in self.model.maps if isinstance(one, FlowProximal)]
        bits = torch.stack([bits_per_dim(flow.log_prob(images), dimensions, self.bits) for flow in flows])
        return error + weight * bits.mean(0)

    def gradients(
        self, player: str, parts: Sequence[Examples], scale: float, each: Each
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Of the loss; of what stands still, zero."""
        for flow in self._weighted.values():
            flow.refresh()
        ends = [leaf for flow in self._weighted.values() for leaf in flow.leaves]
        by_kernel = {id(weight) for one in self._weighted for weight in one.flow.parameters()}
        everything = list(self.model.parameters())
        wanted = [weight for weight in everything if weight.requires_grad and id(weight) not in by_kernel]
        with nullcontext() if self.divisible else by_batch(self.model):
            loss, found = shared_gradients(
                lambda one: scale * self.loss(one).sum(), [*wanted, *ends], parts, each, unused=True
            )
        by_weight = dict(zip(map(id, wanted), found[: len(wanted)], strict=True))
        rest = found[len(wanted) :]
        for one, flow in self._weighted.items():
            by_leaves, rest = rest[: len(flow.leaves)], rest[len(flow.leaves) :]
            by_weight |= dict(zip(map(id, one.flow.parameters()), flow.gradients(by_leaves), strict=True))
        return loss, [by_weight.get(id(weight), torch.zeros_like(weight)) for weight in everything]

    def _asked(self, one: Any) -> AbstractContextManager[Any]:
        weighted = self._weighted.get(one)
        return nullcontext(one if weighted is None else one.by(weighted))

    @torch.no_grad()
    def grid(self, model: Unfolded, pixels: np.ndarray, seed: int) -> Grid:
        """Targets, the way from the start through all folds, and samples of the folds' flows as they are now."""
        source = generator(seed, "samples")
        y, images = self.held_out(channels_first(pixels[:PER_ROW]), source)
        weights = next(model.parameters())
        way = list(model.folds(self.solved.operator, y.to(weights.device)))
        rows = {"target": images, **{f"fold_{fold}": found for fold, found in enumerate(way)}}
        for number, one in enumerate(model.maps):
            if isinstance(one, FlowProximal):
                z = _TEMPERATURE * torch.randn(len(y), one.flow.dimensions, generator=source)
                rows[f"samples_{number}"] = one.flow.decode(z.to(weights))
        return Grid(np.stack([to_pixels(row) for row in rows.values()]), {"rows": list(rows)})


def _weighted_flows(model: Unfolded, settings: TrainingSettings) -> dict[FlowProximal, WeightedFlow]:
    """The flows that learn, as the kernel computes them; none where it can not, or where torch is as fast."""
    if settings.precision != "float32" or model.settings.trains != "all":
        return {}
    found: dict[FlowProximal, WeightedFlow] = {}
    for one in model.maps:
        if isinstance(one, FlowProximal):
            try:
                if pixels_per_weight(folded(one.flow)) < LEAST_PIXELS:
                    return {}
                found[one] = WeightedFlow(one.flow)
            except NotFoldableError:
                return {}
    return found
