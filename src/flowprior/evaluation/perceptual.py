"""How alike two images look: HaarPSI, which needs no learned weights, and LPIPS where it is installed."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import avg_pool2d, pad

from flowprior.errors import FlowpriorError
from flowprior.evaluation.metrics import check_pair

#: HaarPSI's constants for values in 0..255, fitted to opinions of viewers (Reisenhofer et al. 2018, Section 2.3).
C, ALPHA = 30.0, 4.2
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
_IMAGES_AT_ONCE = 64
#: Fewer pixels a side leave nothing after AlexNet's pooling.
LPIPS_SMALLEST = 32
_ALEXNET = "alexnet-owt-7be5be79.pth"


def haarpsi(x: torch.Tensor, reference: torch.Tensor, data_range: float = 1.0) -> torch.Tensor:
    """Haar wavelet-based perceptual similarity index (Reisenhofer et al. 2018).

    Similarities of the two finest Haar scales, weighted by the third, on images halved in size; colours count by two
    channels of chroma (YIQ), so that it tells a colorization from a grey image. It is defined at any size of at least
    two pixels, where MS-SSIM needs 161.

    Args:
        x: images, shape (N, C, H, W); three channels are red, green and blue, others are judged each alone.
        reference: what they should be, same shape.
        data_range: distance between the smallest and the largest possible value.

    Returns:
        float64, shape (N,), above 0 and at most 1; 1 at equality, NaN where an image holds a NaN.

    Raises:
        FlowpriorError: the shapes differ or are not (N, C, H, W).

    Example:
        >>> x = torch.rand(2, 3, 16, 16)
        >>> haarpsi(x, x)
        tensor([1., 1.], dtype=torch.float64)
    """
    check_pair(x, reference, data_range)
    scale = 255 / data_range
    parts = zip(x.split(_IMAGES_AT_ONCE), reference.split(_IMAGES_AT_ONCE), strict=True)
    return torch.cat([_haarpsi(a.double() * scale, b.double() * scale) for a, b in parts])


def _haarpsi(x: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    if x.shape[1] != 3:
        grey = (_score(*_luma(a[:, None], b[:, None])) for a, b in zip(x.unbind(1), reference.unbind(1), strict=True))
        return torch.stack(list(grey)).mean(0)
    to_yiq = torch.tensor(_YIQ, dtype=x.dtype, device=x.device)
    x, reference = (torch.einsum("ij,njhw->nihw", to_yiq, image) for image in (x, reference))
    similar, weights = _luma(x[:, :1], reference[:, :1])
    chroma = _alike(*(_sums(_halved(image[:, 1:]), 2, 2).abs() / 4 for image in (x, reference)))
    similar = torch.cat([similar, chroma.mean(1, keepdim=True)], 1)
    return _score(similar, torch.cat([weights, weights.mean(1, keepdim=True)], 1))


def _luma(x: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarity and weight of both orientations at each position, (N, 2, h, w)."""
    x, reference = _halved(x), _halved(reference)
    fine = [_alike(_haar(x, level), _haar(reference, level)) for level in (1, 2)]
    return (fine[0] + fine[1]) / 2, torch.maximum(_haar(x, 3), _haar(reference, 3))


def _score(similar: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    weights = weights.flatten(1)
    total = weights.sum(1)
    mean = (torch.sigmoid(ALPHA * similar.flatten(1)) * weights).sum(1) / total
    # Without any weight both are black.
    return torch.where(total == 0, 1.0, (torch.logit(mean) / ALPHA) ** 2)


def _alike(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (2 * a * b + C) / (a**2 + b**2 + C)


def _haar(x: torch.Tensor, level: int) -> torch.Tensor:
    """Sizes of an image's (N, 1, h, w) Haar coefficients: differences of rows, then of columns, (N, 2, h, w)."""
    size = 2**level
    half = size // 2
    rows, columns = _sums(x, half, size, size), _sums(x, size, half, size)
    down = rows[..., half:, :] - rows[..., :-half, :]
    across = columns[..., half:] - columns[..., :-half]
    return torch.cat([down, across], 1).abs() / size


def _sums(x: torch.Tensor, height: int, width: int, size: int = 2) -> torch.Tensor:
    """Sums over windows, of images bordered by zeros so that a window of `size` has a place at every pixel."""
    before, after = size // 2 - 1, size // 2
    return avg_pool2d(pad(x, (before, after, before, after)), (height, width), stride=1) * (height * width)


def _halved(x: torch.Tensor) -> torch.Tensor:
    """Means of two by two pixels; beyond an odd border lie zeros."""
    return avg_pool2d(pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)), 2)


def lpips_absent() -> str:
    """Why LPIPS cannot be computed here; empty where it can. Nothing is ever downloaded for it."""
    if importlib.util.find_spec("lpips") is None:
        return "lpips is not installed; pip install lpips"
    weights = Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET
    return "" if weights.exists() else f"AlexNet's weights for lpips do not lie at {weights}; put {_ALEXNET} there"


def lpips(x: torch.Tensor, reference: torch.Tensor, data_range: float = 1.0) -> torch.Tensor:
    """Distance of AlexNet's features, weighted by opinions of viewers (Zhang et al. 2018).

    Args:
        x: images, shape (N, 3, H, W).
        reference: what they should be, same shape.
        data_range: distance between the smallest and the largest possible value.

    Returns:
        float64, shape (N,), 0 at equality; NaN for images that are grey or below 32 pixels a side.

    Raises:
        FlowpriorError: the shapes differ, or the package or its weights are missing.
    """
    check_pair(x, reference, data_range)
    reason = lpips_absent()
    if reason:
        raise FlowpriorError(reason)
    if x.shape[1] != 3 or min(x.shape[-2:]) < LPIPS_SMALLEST:
        return torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
    network = _lpips_network().to(x.device)
    with torch.no_grad():
        parts = zip(x.split(_IMAGES_AT_ONCE), reference.split(_IMAGES_AT_ONCE), strict=True)
        pairs = [network(a.float() / data_range, b.float() / data_range, normalize=True) for a, b in parts]
    return torch.cat(pairs).flatten().double()


@lru_cache(maxsize=1)
def _lpips_network() -> Any:
    import lpips as package

    return package.LPIPS(net="alex", verbose=False).eval()
