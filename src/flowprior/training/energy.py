"""The energy score: how far samples are from images, by images alone and without any other network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from flowprior.models.capabilities import Decodes
from flowprior.optim.problem import finite_rows
from flowprior.randomness import generator

#: What it is called in histories and descriptions.
ENERGY_SCORE = "energy_score"
_SMALLEST = 8
#: Samples that a model's score is estimated from, and how many are made at once.
_SCORED, _PART = 256, 64
#: Flows throw a few samples out of range; where fewer are left than this part of them, they have no score.
_FINITE = 0.99


@torch.no_grad()
def sample_score(model: Decodes, key: tuple[object, ...]) -> Callable[[Tensor], Tensor]:
    """The energy score of a model's samples: one number for every model that makes images, whatever it is trained by.

    Args:
        model: a torch module; its latents are standard normal.
        key: identity of the latents.

    Returns:
        As `energy_score`, of clipped samples; NaN where more than one in a hundred is not finite.
    """
    weights = next(model.parameters())  # type: ignore[attr-defined]
    latents = torch.randn(_SCORED, *model.latent_shape, generator=generator(*key, "samples"))
    images = torch.cat([model.decode(part.to(weights)) for part in latents.split(_PART)]).float()
    finite = finite_rows(images)
    if int(finite.sum()) < _FINITE * _SCORED:
        return lambda held_out: held_out.new_full((len(held_out),), float("nan"))
    return energy_score(images[finite].clamp(0, 1))


def energy_score(samples: Tensor) -> Callable[[Tensor], Tensor]:
    """From images to a score of the samples by each of them; lower is better.

    ES(P, x) = E|X - x| - E|X - X'| / 2 with X, X' ~ P is strictly proper (Gneiting & Raftery 2007, Eq. 22): its mean
    over images is lowest for samples of their own distribution. Blurred samples, samples that are all alike and
    samples with wrong colours all score higher. Here it is the sum over the bands of a Laplacian pyramid, with
    root-mean-square differences, so that fine detail counts beside what is large and coarse.

    Args:
        samples: (S, C, H, W) in [0, 1], at least two.

    Returns:
        A function from images (N, C, H, W) to scores (N,), in units of [0, 1] images.

    Example:
        >>> source = torch.Generator().manual_seed(0)
        >>> images, same, bright = (torch.rand(64, 1, 8, 8, generator=source) for _ in range(3))
        >>> bool(energy_score(same)(images).mean() < energy_score(0.5 + bright / 2)(images).mean())
        True
    """
    bands = _bands(samples)
    count = len(samples)
    # Of distinct samples: a sample is at no distance from itself.
    spreads = [torch.cdist(band, band).sum() / (count * (count - 1)) for band in bands]

    def scores(images: Tensor) -> Tensor:
        parts = zip(_bands(images), bands, spreads, strict=True)
        return torch.stack([torch.cdist(own, band).mean(1) - spread / 2 for own, band, spread in parts]).sum(0)

    return scores


def _bands(images: Tensor) -> list[Tensor]:
    """Differences between an image and its smoother self from fine to coarse, then the coarsest: each (N, D).

    Each is divided by the square root of its size.
    """
    found = []
    while min(images.shape[2:]) >= 2 * _SMALLEST and images.shape[2] % 2 == images.shape[3] % 2 == 0:
        smaller = avg_pool2d(images, 2)
        found.append(images - interpolate(smaller, scale_factor=2.0, mode="bilinear"))
        images = smaller
    return [band.flatten(1) / band[0].numel() ** 0.5 for band in (*found, images)]
