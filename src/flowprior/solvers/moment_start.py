"""A start near the answer: the posterior mean under the Gaussian that the prior's own samples have."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import Density
from flowprior.models.flows.base import Evaluator
from flowprior.models.moments import sample_moments, stored_moments
from flowprior.models.posterior import Posterior
from flowprior.operators.base import Operator
from flowprior.precision import Precision
from flowprior.registry import NoiseStd, SettingsModel
from flowprior.solvers.base import Context
from flowprior.solvers.memory import operator_key

#: What stands for no noise at all.
EXACT_NOISE_STD = 0.001


class MomentSettings(SettingsModel):
    """Settings of a search that can begin at `sample_moments`."""

    samples: int = Field(8192, ge=2, description="how many samples the start 'sample_moments' takes")
    samples_noise_std: NoiseStd | None = Field(
        None, gt=0, description="noise that the start 'sample_moments' assumes; left out: that of each image"
    )


def sample_posteriors(
    operator: Operator,
    prior: Density,
    asked: Evaluator,
    settings: MomentSettings,
    context: Context,
    noise: Tensor,
    precision: Precision,
    mirrors: int = 1,
) -> dict[float, Posterior]:
    """For each noise that an image's start assumes, what posterior means under it need; no measurement enters.

    Args:
        operator: the measurement operator.
        prior: the model, beside whose checkpoint its samples' moments may lie.
        asked: what draws samples where none are stored.
        settings: how many samples, and the noise.
        context: seed, and the memory that keeps what was derived.
        noise: of each image (N,).
        precision: in which `asked` computes.
        mirrors: as of `map`.
    """
    samples = (settings.samples, context.seed, precision)
    gaussian = context.remembered(
        ("sample_moments", *samples),
        lambda: (
            stored_moments(prior, settings.samples, context.seed)
            or sample_moments(asked, settings.samples, context.seed)
        ),
    )
    observed = context.remembered(
        ("sample_observed", *samples, mirrors, operator_key(operator)),
        lambda: gaussian.mirrored(mirrors).observed(operator),
    )
    assumed = [settings.samples_noise_std] if settings.samples_noise_std else noise.unique().tolist()
    return {
        std: context.remembered(
            ("sample_posterior", *samples, mirrors, std, operator_key(operator)),
            partial(observed.posterior, std),
        )
        for std in assumed
    }


def noise_of(weight: Tensor) -> Tensor:
    """The noise that a weight lambda of ||z||^2 beside ||A x - y||^2 / 2 assumes, sqrt(2 lambda), per row."""
    return torch.where(weight == 0, EXACT_NOISE_STD, (2 * weight).sqrt())


@torch.no_grad()
def posterior_means(
    at_noise: Mapping[float, Posterior], operator: Operator, y: Tensor, settings: MomentSettings, noise: Tensor
) -> Tensor:
    """The first image of each measurement (N, C, H, W), in [0, 1].

    Args:
        at_noise: what `sample_posteriors` gave.
        operator: the measurement operator.
        y: measurements (N, ...).
        settings: whether all images assume one noise.
        noise: of each image (N,).
    """
    start = y.new_empty(len(y), *operator.shape)
    for std, posterior in at_noise.items():
        rows = noise == std if settings.samples_noise_std is None else torch.ones_like(noise).bool()
        start[rows] = posterior.mean(y[rows]).clamp(0, 1)
    return start
