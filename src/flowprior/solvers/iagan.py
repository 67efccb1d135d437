"""Image-adaptive generators (Abu Hussein et al. 2020), as Asim et al. 2020 compare with them."""

from __future__ import annotations

import time
from typing import Any

from pydantic import Field
from torch import Tensor

from flowprior.models.adapted import Adapted
from flowprior.models.capabilities import Decodes, passes_of
from flowprior.operators.base import Operator
from flowprior.optim.problem import Rows, SearchSettings, Terms
from flowprior.optim.stages import stages_of
from flowprior.solvers.base import Context, Result, Solver
from flowprior.solvers.csgm import CSGM
from flowprior.solvers.joining import joined, telling
from flowprior.solvers.latent import squared_norm
from flowprior.solvers.searching import search
from flowprior.solvers.sizing import vectors_of


class IAGAN(Solver):
    """CSGM's best latent first, then min_{z, w} ||A G_w(z) - y||^2 + gamma ||z||^2 over latent and weights together.

    Every image has weights of its own, which begin at the prior's: images that the model does not make come within
    reach. The prior itself stays as it is. A flow's weights are adapted as a generator's are. Under noise the weights
    follow the noise too: there, fewer steps or a lower rate.
    """

    name = "iagan"
    needs = Decodes
    per_row = ("gamma",)

    class Settings(SearchSettings):
        """Settings of `iagan`. Asim et al. 2020 give neither steps nor rates: these are ours."""

        gamma: float = Field(0.0, ge=0, description="weight of ||z||^2 in both searches")
        value_range: float = Field(
            2.0, gt=0, description="width of the values that residuals are taken on: Chávez 2021 2, Asim et al. 2020 1"
        )
        latent_steps: int = Field(200, ge=1, description="steps of the first search, over the latent alone")
        latent_learning_rate: float = Field(0.1, gt=0, description="Adam's rate in the first search, at its peak")
        init_std: float = Field(1.0, ge=0, description="standard deviation of the random first latent")
        restarts: int = Field(1, ge=1, description="random starts of the first search; the one of lowest loss goes on")
        steps: int = Field(200, ge=1, description="steps of the second search, over latent and weights")
        learning_rate: float = Field(
            1e-4,
            gt=0,
            description="Adam's rate in the second search, of latent and weights, at its peak; without noise ten times "
            "as much was better, with noise it was worse",
        )

    def own_values(self, shape: tuple[int, int, int], prior: Any) -> int:
        """Weights, as often as the optimiser holds them."""
        return vectors_of(self.settings) * Adapted(prior).parameters

    def run(self, operator: Operator, y: Tensor, prior: Decodes, context: Context) -> Result:
        """Search over latents, then over latents and changes of the weights; each is one batch."""
        settings, adapted = self.settings, Adapted(prior)
        first = self._latents(operator, y, prior, context)
        started = time.perf_counter()
        weight = self.value_per_image("gamma", y, context)
        assert first.latents is not None
        found = first.latents
        sizes = [found.shape[1], adapted.parameters]

        def objective(changes: Tensor, rows: Rows) -> Terms:
            change, of_weights = changes.split(sizes, 1)
            z = found[rows] + change
            images = adapted.images(z, of_weights)
            data_fit = squared_norm(settings.value_range * (operator.A(images) - y[rows]).flatten(1))
            norm = squared_norm(z)
            return Terms(data_fit + weight[rows] * norm, data_fit, norm, images)

        second = search(
            stages_of(objective, settings),
            found.new_zeros(len(y), sum(sizes)),
            settings,
            telling(context, settings.latent_steps, settings.latent_steps + settings.steps),
            started=started,
            network=passes_of(prior),
        )
        return joined(first, second)

    def _latents(self, operator: Operator, y: Tensor, prior: Decodes, context: Context) -> Result:
        """The first search."""
        settings = self.settings
        csgm = CSGM(
            CSGM.Settings(
                gamma=settings.gamma,
                value_range=settings.value_range,
                init_std=settings.init_std,
                restarts=settings.restarts,
                combine="best",
                steps=settings.latent_steps,
                learning_rate=settings.latent_learning_rate,
                schedule=settings.schedule,
                tolerance=settings.tolerance,
                precision=settings.precision,
            )
        )
        return csgm.run(operator, y, prior, telling(context, 0, settings.latent_steps + settings.steps))
