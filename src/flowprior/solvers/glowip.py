"""GlowIP (Asim et al. 2020), as Chávez 2021 compares with it: CSGM's objective from the zero latent."""

from __future__ import annotations

from pydantic import Field

from flowprior.models.capabilities import Invertible
from flowprior.solvers.csgm import CSGM


class GlowIP(CSGM):
    """min_z ||A G(z) - y||^2 + gamma ||z||^2, or gamma ||z||, from z = 0.

    Eq. 1 of Asim et al. 2020 as its program has it: `penalty: norm`, `value_range: 1`, and L-BFGS.
    """

    name = "glowip"
    needs = Invertible

    class Settings(CSGM.Settings):
        """Settings of `glowip`."""

        gamma: float = Field(0.0, ge=0, description="weight of the penalty; Chávez 2021: .1 for denoising, 0 else")
        init_std: float = Field(0.0, ge=0, description="standard deviation of the random first latent")
