"""Synthesis: the search over latents that Oberlin & Verm 2021 compare with."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import Decodes
from flowprior.optim.problem import Terms
from flowprior.solvers.latent import LatentSettings, LatentSolver, squared_norm
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

    class Settings(PenaltySettings, LatentSettings):
        """Settings of `synthesis`."""

        value_range: float = Field(
            1.0, gt=0, description="width of the values that residuals are taken on; 1 as in Oberlin & Verm 2021"
        )

    def terms(self, weight: Tensor, residual: Tensor, z: Tensor, images: Tensor, log_det: Tensor) -> Terms:
        """Eq. 3."""
        settings = self.settings
        data_fit, norm = 0.5 * squared_norm(residual), squared_norm(z)
        loss = data_fit + weight * norm
        if settings.checkerboard:
            loss = loss + settings.checkerboard * checkerboard_energy(images, settings.checkerboard_cells)
        return Terms(loss, data_fit, norm, images)
