"""The Gaussian that a flow implies: mean and covariance of its own samples; once trained, beside its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from flowprior.errors import FlowpriorError
from flowprior.files import replacing
from flowprior.models.files import MOMENTS
from flowprior.models.flows.base import Evaluator, Flow
from flowprior.models.gaussian import Gaussian
from flowprior.models.weights import weights_digest
from flowprior.optim.problem import finite_rows
from flowprior.randomness import generator

_BATCH = 1024
#: A flow without 1x1 convolutions throws a few samples in thousands out of range: so many of a batch are left out.
_TOLERATED = 0.01


def sample_moments(prior: Evaluator, samples: int, seed: int) -> Gaussian:
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


def write_moments(path: Path, flow: Flow, drawn: Gaussian | None, samples: int, seed: int) -> None:
    """Leave a flow's moments beside its checkpoint, with what tells whose they are.

    Args:
        path: the file, `MOMENTS` in the checkpoint's folder.
        flow: whose.
        drawn: its `sample_moments`; None for images too large for a covariance: the file then holds none.
        samples: how many were drawn.
        seed: seed of the samples.
    """
    facts = {"weights": weights_digest(flow), "samples": samples if drawn else 0, "seed": seed}
    arrays = {"shape": drawn.shape, "mean": drawn.mean.float(), "covariance": drawn.covariance.float()} if drawn else {}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **{name: np.asarray(value) for name, value in {**facts, **arrays}.items()})  # type: ignore[arg-type]


def stored_moments(flow: object, samples: int, seed: int) -> Gaussian | None:
    """What lies beside the checkpoint that a flow was read from, if it is of these weights, samples and seed.

    A flow that was trained on since, or a file that was copied beside another, finds nothing; nor does a model that was
    not read from a folder.
    """
    if not isinstance(flow, nn.Module):
        return None
    folder = getattr(flow, "checkpoint", None)
    path = folder / MOMENTS if folder else None
    if path is None or not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        facts = str(arrays["weights"]), int(arrays["samples"]), int(arrays["seed"])
    return Gaussian.load(path) if facts == (weights_digest(flow), samples, seed) else None


def _samples(prior: Evaluator, samples: int, seed: int) -> Iterator[torch.Tensor]:
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
