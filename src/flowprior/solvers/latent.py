"""Search over latents z with x = G(z): what `chavez`, `csgm` and `glowip` share."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import Decodes, passes_of
from flowprior.models.evaluator import evaluator, latent_sizes
from flowprior.operators.base import Operator
from flowprior.optim.problem import Rows, SearchSettings, Terms
from flowprior.optim.stages import coarse_stages, stages_of
from flowprior.randomness import keyed_rows
from flowprior.registry import SettingsModel
from flowprior.solvers.averaging import Combine, combined
from flowprior.solvers.base import Context, Result, Solver, solve
from flowprior.solvers.searching import search


class LatentSettings(SearchSettings):
    """Settings of every search over latents."""

    start: Literal["origin", "pseudo_inverse", "lasso_wavelet"] = Field(
        "origin",
        description="what the first latent is spread around: z = 0, or the latent of A_dagger y, or of what the Lasso "
        "in wavelets makes of y",
    )
    init_std: float = Field(0.0, ge=0, description="standard deviation of the first latent's random part")
    init_norm: float | None = Field(
        None, ge=0, description="length to which the first latent's random part is scaled; null: as it is drawn"
    )
    value_range: float = Field(
        2.0,
        gt=0,
        description="width of the values that residuals are taken on: Chávez 2021 2, Asim et al. 2020 1",
    )
    coarse_steps: int = Field(
        0, ge=0, description="steps for each level of the flow from the coarsest on, while finer latents stay; then all"
    )
    restarts: int = Field(1, ge=1, description="independent random starts of each image")
    combine: Combine = Field(
        "mean",
        description="of several restarts: the mean of their images (Asim et al. 2020 average three of csgm with "
        "generators), or the one with the lowest loss (ours)",
    )
    project: bool = Field(
        False, description="make A x = y exact by x + A_dagger(y - A x); only sensible where y has no noise"
    )


class LatentSolver(Solver):
    """Minimise an objective of G(z) and z, from a random or zero latent, or from that of an image."""

    takes_start = True
    Settings: ClassVar[type[SettingsModel]] = LatentSettings
    #: The setting that weighs the prior's term.
    weight: ClassVar[str]

    @abstractmethod
    def terms(self, weight: Tensor, residual: Tensor, z: Tensor, images: Tensor, log_det: Tensor) -> Terms:
        """The objective.

        Args:
            weight: weight of the prior's term (N,).
            residual: A G(z) - y times the settings' `value_range`, flat (N, M).
            z: latents (N, D).
            images: G(z) in [0, 1], not clipped.
            log_det: log |det J_G(z)| (N,); NaN of a model that only decodes.
        """

    def run(self, operator: Operator, y: Tensor, prior: Decodes, context: Context) -> Result:
        """Search over z, once for each restart, as one batch."""
        settings = self.settings
        copies = settings.restarts
        many = y.repeat_interleave(copies, dim=0)
        weight = self.value_per_image(self.weight, y, context).repeat_interleave(copies)
        spread = self._spread(prior, context).to(y)

        scale = settings.value_range

        def objective(z: Tensor, rows: Rows) -> Terms:
            images, log_det = asked.inverse(z)
            return self.terms(weight[rows], scale * (operator.A(images) - many[rows]).flatten(1), z, images, log_det)

        def finish(images: Tensor) -> Tensor:
            if settings.project:
                images = images + operator.A_dagger(many - operator.A(images))
            return images

        stages = stages_of(objective, settings, coarse_stages(latent_sizes(prior), settings.coarse_steps))
        with evaluator(prior, precision=settings.precision, kernel=context.kernel) as asked:
            started = time.perf_counter()
            start, network = spread, passes_of(prior)
            encoded = context.start is not None or settings.start != "origin"
            if encoded:
                with torch.no_grad():
                    near = self._near(operator, y, context)
                    start = spread + asked.forward(near.clamp(0, 1).repeat_interleave(copies, dim=0))[0]
            return combined(
                copies,
                context,
                lambda rows: search(stages, start, settings, rows, finish, started, network, network * encoded, True),
                settings.combine,
            )

    def _near(self, operator: Operator, y: Tensor, context: Context) -> Tensor:
        """The images at whose latents the search begins."""
        if context.start is not None:
            return context.start
        if self.settings.start == "lasso_wavelet":
            return solve("lasso_wavelet", operator, y, memory=context.memory).images
        return operator.A_dagger(y)

    def _spread(self, prior: Decodes, context: Context) -> Tensor:
        """The random part of each row's first latent (N * restarts, D)."""
        settings = self.settings
        drawn = keyed_rows(
            torch.randn,
            (math.prod(prior.latent_shape),),
            [(context.seed, key, "start", restart) for key in context.keys for restart in range(settings.restarts)],
        )
        if settings.init_norm is None:
            return settings.init_std * drawn
        return settings.init_norm * drawn / drawn.norm(dim=1, keepdim=True)


def squared_norm(z: Tensor) -> Tensor:
    """||z||^2 per row."""
    return torch.sum(z * z, dim=1)
