"""A search over latents that goes on over images: synthesis finds the face, the image space its details."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import Invertible, passes_of
from flowprior.models.evaluator import evaluator
from flowprior.operators.base import Operator
from flowprior.optim.problem import Rows
from flowprior.solvers.analysis import against_checkerboards
from flowprior.solvers.base import Context, Result, Solver
from flowprior.solvers.image_space import ImageSettings, Penalty, search_images, squared_latents
from flowprior.solvers.joining import joined, telling
from flowprior.solvers.moment_start import MomentSettings
from flowprior.solvers.penalties import PenaltySettings
from flowprior.solvers.synthesis import Synthesis


class Hybrid(Solver):
    """`synthesis` for some steps, then from its image a search over images: Eq. 3, then Eq. 4 of Oberlin & Verm 2021.

    The second search penalises lambda ||F(x)||^2, as `analysis`, or -2 lambda log p(x), as `map` with noise of
    sqrt(2 lambda): both are the same but for the log-determinant and a constant.
    """

    name = "hybrid"
    needs = Invertible
    per_row = ("weight",)
    takes_start = True

    class Settings(PenaltySettings, MomentSettings, ImageSettings):
        """Settings of `hybrid`."""

        spread: ClassVar[tuple[str, ...]] = ("origin", "pseudo_inverse", "sample_moments")

        penalty: Literal["latent_norm", "density"] = Field(
            "density", description="of the second search: ||F(x)||^2, or -2 log p(x), log-determinant included"
        )
        latent_steps: int = Field(100, ge=1, description="steps of the first search, over latents")
        steps: int = Field(100, ge=1, description="steps of the second search, over images")
        latent_weight: float | None = Field(
            None, ge=0, description="lambda of the first search; null: that of the second"
        )
        latent_learning_rate: float = Field(
            0.1, gt=0, description="in the first search: Adam's rate at its peak; for lbfgs as learning_rate"
        )
        start: Literal["origin", "pseudo_inverse", "sample_moments"] = Field(
            "origin", description="where the first search begins, as of `synthesis`"
        )
        init_std: float = Field(0.0, ge=0, description="standard deviation of the first latent's random part")
        optimiser: Literal["adam", "lbfgs"] = Field("lbfgs", description="of both searches")

    def run(self, operator: Operator, y: Tensor, prior: Invertible, context: Context) -> Result:
        """Search over z, then over x; each is one batch."""
        settings = self.settings
        whole = settings.latent_steps + settings.steps
        first = self._latents(operator, y, prior, telling(context, 0, whole))
        with evaluator(prior, precision=settings.precision, kernel=context.kernel) as asked:
            second = search_images(
                operator,
                y,
                first.images,
                _penalty(asked, settings.penalty),
                settings,
                telling(context, settings.latent_steps, whole),
                data_weight=torch.full_like(y.flatten(1)[:, 0], 0.5),
                weight=self.value_per_image("weight", y, context),
                besides=against_checkerboards(settings),
                started=time.perf_counter(),
                network=passes_of(prior),
                begun=0,
            )
        return joined(first, second)

    def _latents(self, operator: Operator, y: Tensor, prior: Invertible, context: Context) -> Result:
        """The first search."""
        settings = self.settings
        shared = {name: getattr(settings, name) for name in _SHARED}
        own = settings.weight if settings.latent_weight is None else settings.latent_weight
        synthesis = Synthesis(
            Synthesis.Settings(
                weight=own, steps=settings.latent_steps, learning_rate=settings.latent_learning_rate, **shared
            )
        )
        weights = context.weights if settings.latent_weight is None else {}
        return synthesis.run(operator, y, prior, replace(context, weights=weights))


#: What the first search takes from the settings as it is.
_SHARED = (
    *("checkerboard", "checkerboard_cells", "start", "init_std", "samples", "samples_noise_std"),
    *("optimiser", "schedule", "history", "tolerance", "precision"),
)


def _penalty(prior: Any, kind: str) -> Penalty:
    if kind == "latent_norm":
        return squared_latents(prior)

    def density(x: Tensor, rows: Rows) -> Tensor:
        value: Tensor = -2 * prior.log_prob(x)
        return value

    return density
