"""Synthesis: the search over latents that Oberlin & Verm 2021 compare with."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.models.capabilities import Decodes, Invertible
from flowprior.models.evaluator import evaluator
from flowprior.operators.base import Operator
from flowprior.optim.problem import Terms
from flowprior.solvers.base import Context, Result
from flowprior.solvers.latent import LatentSettings, LatentSolver, squared_norm
from flowprior.solvers.moment_start import MomentSettings, noise_of, posterior_means, sample_posteriors
from flowprior.solvers.penalties import PenaltySettings, checkerboard_energy


class Synthesis(LatentSolver):
    """min_z ||A G(z) - y||^2 / 2 + lambda ||z||^2 from z = 0, Eq. 3 of Oberlin & Verm 2021; values of unit width.

    The same objective as `glowip` with a squared norm and twice the weight, on values of unit width. Their flow has
    learned means and scales for what its levels split off; their program penalises standardised latents here, and raw
    ones in `analysis`. The flows of this package have none of these: both methods take the same latents.
    """

    name = "synthesis"
    needs = Decodes
    weight = "weight"
    per_row = ("weight",)

    class Settings(PenaltySettings, MomentSettings, LatentSettings):
        """Settings of `synthesis`."""

        # One start more than the other searches over latents have.
        start: Literal["origin", "pseudo_inverse", "lasso_wavelet", "sample_moments"] = Field(  # type: ignore[assignment]
            "origin",
            description="what the first latent is spread around: z = 0, or the latent of A_dagger y, of what the Lasso "
            "in wavelets makes of y, or, as `map` begins, of the posterior mean under the Gaussian of the flow's own "
            "samples, under noise of sqrt(2 lambda), which is not counted in `seconds`",
        )
        value_range: float = Field(
            1.0, gt=0, description="width of the values that residuals are taken on; 1 as in Oberlin & Verm 2021"
        )

    def run(self, operator: Operator, y: Tensor, prior: Decodes, context: Context) -> Result:
        """Search over z."""
        settings = self.settings
        if settings.start == "sample_moments" and context.start is None:
            context = replace(context, start=self._posterior_means(operator, y, prior, context))
        return super().run(operator, y, prior, context)

    def _posterior_means(self, operator: Operator, y: Tensor, prior: Decodes, context: Context) -> Tensor:
        settings = self.settings
        if not isinstance(prior, Invertible):
            raise FlowpriorError(
                f"start 'sample_moments' needs a prior that finds latents of images, and {type(prior).__name__} finds "
                "none; use 'origin'"
            )
        noise = noise_of(self.value_per_image("weight", y, context))
        with evaluator(prior, precision=settings.precision, kernel=context.kernel) as asked:
            at_noise = sample_posteriors(operator, prior, asked, settings, context, noise, settings.precision)
        return posterior_means(at_noise, operator, y, settings, noise)

    def terms(self, weight: Tensor, residual: Tensor, z: Tensor, images: Tensor, log_det: Tensor) -> Terms:
        """Eq. 3."""
        settings = self.settings
        data_fit, norm = 0.5 * squared_norm(residual), squared_norm(z)
        loss = data_fit + weight * norm
        if settings.checkerboard:
            loss = loss + settings.checkerboard * checkerboard_energy(images, settings.checkerboard_cells)
        return Terms(loss, data_fit, norm, images)
