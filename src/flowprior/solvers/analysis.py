"""Analysis: the image itself is searched, and its latent is penalised (Oberlin & Verm 2021)."""

from __future__ import annotations

import time
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import Invertible, passes_of
from flowprior.models.evaluator import evaluator
from flowprior.operators.base import Operator
from flowprior.solvers.base import Context, Result, Solver
from flowprior.solvers.image_space import ImageSettings, Penalty, first_images, search_images, squared_latents
from flowprior.solvers.moment_start import MomentSettings, noise_of, posterior_means, sample_posteriors
from flowprior.solvers.penalties import PenaltySettings, checkerboard_energy


class Analysis(Solver):
    """min_x ||A x - y||^2 / 2 + lambda ||F(x)||^2 from x = G(0), Eq. 4 of Oberlin & Verm 2021; values of unit width.

    `map` with noise of sqrt(2 lambda) less the log-determinant: what of -log p(x) is no latent norm does not count.
    Their program lets the flow see x clipped to its range; here it sees x as it is. Their flow has learned means and
    scales for what its levels split off, and the program penalises raw latents here, standardised ones in `synthesis`:
    the flows of this package have none of these, and a latent is the same in both.
    """

    name = "analysis"
    needs = Invertible
    per_row = ("weight",)
    takes_start = True

    class Settings(PenaltySettings, MomentSettings, ImageSettings):
        """Settings of `analysis`."""

        optimiser: Literal["adam", "lbfgs"] = Field("lbfgs", description="as in every search")
        start: Literal["zero_latent", "pseudo_inverse", "uniform", "measurement", "sample_moments"] = Field(
            "zero_latent",
            description="first image: G(0), as the paper has it; A_dagger y; uniform pixels in [0, 1], as its program "
            "has them for super-resolution and blur; y itself; or, as `map` begins, the posterior mean under the "
            "Gaussian of the flow's own samples, under noise of sqrt(2 lambda)",
        )

    def run(self, operator: Operator, y: Tensor, prior: Invertible, context: Context) -> Result:
        """Search over x."""
        settings = self.settings
        weight = self.value_per_image("weight", y, context)
        noise = noise_of(weight)
        with evaluator(prior, precision=settings.precision, kernel=context.kernel) as asked:
            near = settings.start == "sample_moments" and context.start is None
            told = (operator, prior, asked, settings, context, noise, settings.precision)
            at_noise = sample_posteriors(*told) if near else {}
            started, network = time.perf_counter(), passes_of(prior)
            start, begun = (
                (posterior_means(at_noise, operator, y, settings, noise), 0)
                if near
                else first_images(settings.start, operator, y, asked, settings, context)
            )
            return search_images(
                operator,
                y,
                start,
                squared_latents(asked),
                settings,
                context,
                data_weight=torch.full_like(y.flatten(1)[:, 0], 0.5),
                weight=weight,
                besides=against_checkerboards(settings),
                started=started,
                network=network,
                begun=network * begun,
            )


def against_checkerboards(settings: PenaltySettings) -> Penalty | None:
    """The term that weighs checkerboards, where settings ask for one."""
    if not settings.checkerboard:
        return None
    return lambda x, rows: settings.checkerboard * checkerboard_energy(x, settings.checkerboard_cells)
