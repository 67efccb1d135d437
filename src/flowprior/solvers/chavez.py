"""Likelihood-regularised inversion: the method of Chávez 2021."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from flowprior.models.flows.base import standard_normal_log_prob
from flowprior.optim.problem import Terms
from flowprior.solvers.latent import LatentSettings, LatentSolver


class Chavez(LatentSolver):
    """min_z ||A G(z) - y||_1 + alpha * (log |det J_G(z)| - log p_Z(z)), Eq. 4 of Chávez 2021.

    The bracket is -log p(x) of the image x = G(z), so that likely images win, not likely latents. The paper starts
    at z ~ N(0, 0.1^2) and takes 1500 steps of Adam at 0.005.
    """

    name = "chavez"
    weight = "alpha"
    per_row = ("alpha",)

    class Settings(LatentSettings):
        """Settings of `chavez`."""

        alpha: float = Field(0.02, ge=0, description="weight of -log p(x); the paper: .05, .02, .002, .02 by task")
        smoothing: float = Field(
            0.0, ge=0, description="s of sqrt(r^2 + s^2) - s in place of |r|, values in [-1, 1]; lbfgs needs it"
        )
        init_std: float = Field(0.1, ge=0, description="standard deviation of the random first latent")

    def terms(self, weight: Tensor, residual: Tensor, z: Tensor, images: Tensor, log_det: Tensor) -> Terms:
        """Eq. 4."""
        s = self.settings.smoothing
        data_fit = ((residual.square() + s**2).sqrt() - s).sum(1) if s else residual.abs().sum(1)
        neg_log_prob = log_det - standard_normal_log_prob(z)
        return Terms(data_fit + weight * neg_log_prob, data_fit, neg_log_prob, images)
