"""The Deep Decoder (Heckel & Hand 2019) as Asim et al. 2020 compare with it: a network that has seen no image."""

from __future__ import annotations

import time
from typing import Any

from pydantic import Field
from torch import Tensor

from flowprior.models.networks.deep_decoder import DeepDecoder
from flowprior.operators.base import Operator
from flowprior.optim.problem import Rows, SearchSettings, Terms
from flowprior.optim.stages import stages_of
from flowprior.solvers.base import Context, Result, Solver
from flowprior.solvers.searching import search
from flowprior.solvers.sizing import vectors_of


class DeepDecoderSolver(Solver):
    """min_w ||A G_w(u) - y||^2 / m over the weights w of an untrained network; u is fixed noise.

    Every image has weights of its own. Nothing is learned from images: what the network makes easily, smooth areas and
    long edges, comes first, and noise later. So under noise the number of steps regularises.
    """

    name = "deep_decoder"
    needs = None
    baseline = True

    class Settings(SearchSettings):
        """Settings of `deep_decoder`. Asim et al. 2020 say Adam and give neither steps nor rate: these are ours.

        Chosen on four photographs at 64x64, in mean dB after 300 and 1000 steps at .01: 3x3 deblurring 27.4 and 30.2,
        centre inpainting 17.9 and 19.1, denoising at noise .1 27.6 and 27.4.
        """

        width: int = Field(250, ge=1, description="channels; Asim et al. 2020: 250 at 64x64, 700 at 128x128")
        layers: int | None = Field(
            None, ge=1, le=10, description="each doubles the sides; null: as many as leave a first grid of 4 pixels"
        )
        steps: int = Field(
            1000, ge=1, description="as in every search; under strong noise fewer are better, such as 300"
        )
        learning_rate: float = Field(
            0.01, gt=0, description="Adam's rate at its peak; .02 was better in inpainting and worse elsewhere"
        )
        tolerance: float = Field(
            0.0, ge=0, description="an image stops where ten steps gain less than this part of its loss; 0: never"
        )

    def own_values(self, shape: tuple[int, int, int], prior: Any) -> int:
        """Weights as often as the optimiser holds them, and what autograd keeps of the network."""
        network = self._network(shape)
        return vectors_of(self.settings) * network.parameters + network.values_per_image()

    def run(self, operator: Operator, y: Tensor, prior: None, context: Context) -> Result:
        """Search over the weights of all images as one batch."""
        started = time.perf_counter()
        network = self._network(operator.shape)
        inputs, start = (
            drawn.to(y) for drawn in network.start([(context.seed, key, self.name) for key in context.keys])
        )

        def objective(weights: Tensor, rows: Rows) -> Terms:
            images = network.images(weights, inputs[rows])
            # A mean, so that the loss is of one scale whatever the task.
            data_fit = (operator.A(images) - y[rows]).square().flatten(1).mean(1)
            return Terms(data_fit, data_fit, data_fit.new_zeros(len(data_fit)), images)

        return search(stages_of(objective, self.settings), start, self.settings, context, started=started)

    def _network(self, shape: tuple[int, int, int]) -> DeepDecoder:
        return DeepDecoder(shape, self.settings.width, self.settings.layers)
