"""The Gaussian that a flow implies: mean and covariance of its own samples."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from flowprior.errors import FlowpriorError
from flowprior.models.flows.base import FlowLike
from flowprior.models.gaussian import Gaussian
from flowprior.optim.search import finite_rows
from flowprior.randomness import generator

_BATCH = 1024
#: A flow without 1x1 convolutions throws a few samples in thousands out of range: so many of a batch are left out.
_TOLERATED = 0.01


def sample_moments(prior: FlowLike, samples: int, seed: int) -> Gaussian:
    """The Gaussian with the mean and covariance of a flow's samples.

    Its posterior mean is the best linear estimate under the flow's own density: unlike the mode, which of a
    flow in many dimensions is no typical image, it is near the flow's posterior mean.

    Args:
        prior: a flow over images in [0, 1].
        samples: how many; clipped to [0, 1]. Fewer than the number of values per image leave directions without
            variance, which an assumed noise of .02 to .03 makes good.
        seed: seed of the samples.

    Raises:
        FlowpriorError: more than 1 % of a batch of samples are not finite, or images too large for a dense covariance.
    """
    return Gaussian.fit_parts(_samples(prior, samples, seed))


def _samples(prior: FlowLike, samples: int, seed: int) -> Iterator[torch.Tensor]:
    for start in range(0, samples, _BATCH):
        source = generator(seed, "moments", start)
        images = prior.sample(min(_BATCH, samples - start), generator=source).cpu()
        finite = finite_rows(images)
        broken = len(images) - int(finite.sum())
        if broken > _TOLERATED * len(images):
            raise FlowpriorError(
                f"{broken} of {len(images)} samples of the flow are not finite; "
                "train it longer, or start the search elsewhere"
            )
        yield images[finite].clamp(0, 1)
