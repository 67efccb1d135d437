"""The whole posterior under a Gaussian prior, in closed form: mean, standard deviation of each pixel, and draws."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import LinearGaussian
from flowprior.models.posterior import Posterior
from flowprior.operators.base import Operator
from flowprior.randomness import keyed_rows
from flowprior.registry import NoiseStd, SettingsModel
from flowprior.solvers.base import Context, Result, Solver, closed_form_result
from flowprior.solvers.memory import operator_key


class LinearPosterior(Solver):
    """N(m + K (y - A m), C - K A C) with K = C A^T (A C A^T + sigma^2 I)^-1, of the training images' m and C.

    The mean is that of `linear_mmse`; what is added says how far it can be trusted, and is exact where images are
    Gaussian: a measure for methods that only estimate a posterior.
    """

    name = "linear_posterior"
    needs = LinearGaussian
    baseline = True

    class Settings(SettingsModel):
        """Settings of `linear_posterior`."""

        noise_std: NoiseStd = Field(0.005, gt=0, description="assumed noise of the measurement, on values in [0, 1]")
        samples: int = Field(4, ge=0, description="draws from the posterior of each image; 0: none")

    def run(self, operator: Operator, y: Tensor, prior: LinearGaussian, context: Context) -> Result:
        """Two linear solves for the whole batch; what no measurement enters is made once per job, off the clock."""
        settings = self.settings
        posterior = self._posterior(operator, prior, context)
        std = posterior.std.expand(len(y), *operator.shape).to(y)
        started = time.perf_counter()
        mean = posterior.mean(y)
        samples = self._samples(posterior, y, context) if settings.samples else None
        return replace(closed_form_result(mean, started, context), std=std, samples=samples)

    def _posterior(self, operator: Operator, prior: LinearGaussian, context: Context) -> Posterior:
        key = operator_key(operator)
        observed = context.remembered(("observed", key), lambda: prior.observed(operator))
        noise_std = self.settings.noise_std
        posterior = context.remembered(("posterior", key, noise_std), lambda: observed.posterior(noise_std))
        if self.settings.samples:
            posterior.prepare_samples()
        return posterior

    def _samples(self, posterior: Posterior, y: Tensor, context: Context) -> Tensor:
        """Draws (N, S, C, H, W), each keyed by its image and its number."""
        count = self.settings.samples
        keys = [(context.seed, key, "posterior", number) for key in context.keys for number in range(count)]
        noise = keyed_rows(torch.randn, (posterior.random_numbers,), [*keys])
        images = posterior.samples(y.repeat_interleave(count, dim=0), noise)
        return images.reshape(len(y), count, *images.shape[1:])
