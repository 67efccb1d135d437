"""Maximum a posteriori over the image itself, with the flow's full density."""

from __future__ import annotations

import math
import time
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import Density, passes_of
from flowprior.models.evaluator import evaluator
from flowprior.models.gaussian import MAX_DIMENSIONS
from flowprior.operators.base import Operator
from flowprior.optim.problem import Rows
from flowprior.registry import NoiseStd
from flowprior.solvers.averaging import averaged
from flowprior.solvers.base import Context, Result, Solver
from flowprior.solvers.image_space import ImageSettings, first_images, search_images
from flowprior.solvers.moment_start import EXACT_NOISE_STD, MomentSettings, posterior_means, sample_posteriors


class MAP(Solver):
    """min_x ||A x - y||^2 / (2 sigma^2) - log p(x), log-determinant included.

    Where the measurement is noise-free, sigma is a small assumed noise; it may differ from the true one, because a
    flow's density is not the truth either. By default the search begins at the best linear estimate under the flow's
    own samples, and ends where it hardly gains any more: the mode itself is often worse than what lies on the way.
    Of images too large for a covariance (`flowprior.models.gaussian.MAX_DIMENSIONS` values) it begins at G(0).
    """

    name = "map"
    needs = Density
    per_row = ("noise_std",)

    class Settings(MomentSettings, ImageSettings):
        """Settings of `map`."""

        noise_std: NoiseStd = Field(
            0.02, ge=0, description="assumed noise of the measurement, on values in [0, 1]; 0 stands for .001"
        )
        optimiser: Literal["adam", "lbfgs"] = Field("lbfgs", description="as in every search")
        tolerance: float = Field(
            1e-2, ge=0, description="an image stops where ten steps gain less than this part of its loss; 0: never"
        )
        start: Literal["measurement", "pseudo_inverse", "zero_latent", "sample_moments"] = Field(
            "sample_moments",
            description="first image: y itself, A_dagger y (near the answer where y has no noise, far from it where A "
            "hardly has an inverse and y has noise), G(0), or the posterior mean under the Gaussian with the "
            "mean and covariance of the flow's own samples; what of it no measurement enters is not counted in "
            "`seconds`",
        )
        tempering: float = Field(
            0.1,
            ge=0,
            description="t: the search takes noise_std / (1 + noise_std / t) for the noise, since under strong noise "
            "the mode is smoother than any image; 0: noise_std as it is",
        )
        mirrors: Literal[1, 2, 4] = Field(
            1,
            description="average the solutions under the prior and under its mirror images: 2 left to right, 4 upside "
            "down too (where the training images allow it)",
        )

    def run(self, operator: Operator, y: Tensor, prior: Density, context: Context) -> Result:
        """Search over x."""
        settings = self.settings
        copies = settings.mirrors
        noise = self.value_per_image("noise_std", y, context)
        noise = torch.where(noise == 0, EXACT_NOISE_STD, noise)
        tempered = noise / (1 + noise / settings.tempering) if settings.tempering else noise
        weight = 0.5 / tempered.square().repeat_interleave(copies)
        first = self._first(operator)
        many = y.repeat_interleave(copies, dim=0)

        mirror = torch.arange(len(many), device=y.device) % copies

        def neg_log_prob(x: Tensor, rows: Rows) -> Tensor:
            return -asked.log_prob(_mirrored(x, mirror[rows]) if copies > 1 else x)

        with evaluator(prior, precision=settings.precision, kernel=context.kernel) as asked:
            near = first == "sample_moments"
            told = (operator, prior, asked, settings, context, noise, settings.precision, copies)
            at_noise = sample_posteriors(*told) if near else {}
            started, network = time.perf_counter(), passes_of(prior)
            start, decoded = (
                (posterior_means(at_noise, operator, y, settings, noise), 0)
                if near
                else first_images(first, operator, y, asked, settings, context)
            )
            start = start.repeat_interleave(copies, dim=0)
            if first == "zero_latent" and copies > 1:
                # Of each copy's own prior: the mirror image of G(0).
                start = _mirrored(start, mirror)
            return averaged(
                copies,
                context,
                lambda rows: search_images(
                    operator,
                    many,
                    start,
                    neg_log_prob,
                    settings,
                    rows,
                    data_weight=weight,
                    started=started,
                    network=network,
                    begun=network * decoded,
                ),
            )

    def _first(self, operator: Operator) -> str:
        """How the search begins; the default where a covariance can be had."""
        asked, values = self.settings.start, math.prod(operator.shape)
        too_large = "start" not in self.settings.model_fields_set and values > MAX_DIMENSIONS
        return "zero_latent" if too_large else asked


def _mirrored(x: Tensor, mirror: Tensor) -> Tensor:
    """Each image by its number: 0 as it is, 1 left to right, 2 upside down, 3 both."""
    across, upside_down = (mirror % 2 == 1).reshape(-1, 1, 1, 1), (mirror >= 2).reshape(-1, 1, 1, 1)
    x = torch.where(across, x.flip(-1), x)
    return torch.where(upside_down, x.flip(-2), x)
