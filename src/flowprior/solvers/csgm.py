"""CSGM (Bora et al. 2017), as Chávez 2021 compares with it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import Decodes
from flowprior.optim.problem import Terms
from flowprior.solvers.latent import LatentSettings, LatentSolver, squared_norm


class CSGM(LatentSolver):
    """min_z ||A G(z) - y||^2 + gamma ||z||^2 from z ~ N(0, I), Eq. 1 of Chávez 2021, or with gamma ||z||.

    Of the model it asks images of latents, and nothing else: a flow or a generator.
    """

    name = "csgm"
    needs = Decodes
    weight = "gamma"
    per_row = ("gamma",)

    class Settings(LatentSettings):
        """Settings of `csgm`."""

        gamma: float = Field(0.01, ge=0, description="weight of the penalty; Chávez 2021: .1 for denoising, .01 else")
        penalty: Literal["squared", "norm"] = Field(
            "squared", description="||z||^2, or ||z|| as the sweeps of Asim et al. 2020"
        )
        init_std: float = Field(1.0, ge=0, description="standard deviation of the random first latent")

    def terms(self, weight: Tensor, residual: Tensor, z: Tensor, images: Tensor, log_det: Tensor) -> Terms:
        """Eq. 1."""
        data_fit = squared_norm(residual)
        # At z = 0, where searches begin, torch takes zero of the norm's subgradients.
        norm = z.norm(dim=1) if self.settings.penalty == "norm" else squared_norm(z)
        return Terms(data_fit + weight * norm, data_fit, norm, images)
