"""How near an image is to its reference: one value per image, nothing pooled over a batch."""

from __future__ import annotations

import math

import torch

from flowprior.errors import FlowpriorError

#: Side and standard deviation of SSIM's Gaussian window (Wang et al. 2004).
WINDOW, SIGMA = 11, 1.5
#: SSIM's constants for values in [0, 1]; of another range they grow with its square.
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
_IMAGES_AT_ONCE = 64
#: From how many times data_range on a reference, or an image without negative values, is of another range.
_OF_ANOTHER_RANGE, _FAR = 1.5, 8.0


def psnr(x: torch.Tensor, reference: torch.Tensor, data_range: float = 1.0) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB, `10 log10(data_range^2 / MSE)`, as scikit-image defines it.

    Args:
        x: images, shape (N, C, H, W).
        reference: what they should be, same shape.
        data_range: distance between the smallest and the largest possible value.

    Returns:
        float64, shape (N,); `inf` where an image equals its reference, NaN where it holds a NaN.
        Means over images cap it, see `flowprior.evaluation.statistics.PSNR_CAP`.

    Raises:
        FlowpriorError: the shapes differ or are not (N, C, H, W), or data_range is not that of the values.

    Example:
        >>> x = torch.zeros(1, 3, 8, 8)
        >>> psnr(x + 0.1, x).round(decimals=3)
        tensor([20.], dtype=torch.float64)
    """
    return 10 * torch.log10(data_range**2 / _mse(x, reference, data_range))


def psnr_chavez2021(x: torch.Tensor, reference: torch.Tensor, data_range: float = 1.0) -> torch.Tensor:
    """PSNR as the program of Chávez 2021 computes it: `20 log10(255 / MSE^(1/4))`, MSE on values 0..255.

    The fourth root where a square root belongs halves the scale: it equals (psnr + 48.13) / 2. It stands
    beside the paper's printed table and nowhere else. The program also pools one MSE per 32 images; here
    every image has its own value, and `pooled_psnr_chavez2021` pools afterwards.

    Args:
        x: images, shape (N, C, H, W).
        reference: what they should be, same shape.
        data_range: distance between the smallest and the largest possible value.

    Returns:
        float64, shape (N,).

    Example:
        >>> x = torch.zeros(1, 3, 8, 8)
        >>> psnr_chavez2021(x + 0.1, x).round(decimals=3)
        tensor([34.0650], dtype=torch.float64)
    """
    return 20 * torch.log10(255 / (_mse(x, reference, data_range) * (255 / data_range) ** 2) ** 0.25)


def ssim(x: torch.Tensor, reference: torch.Tensor, data_range: float = 1.0) -> torch.Tensor:
    """Structural similarity with an 11x11 Gaussian window of sigma 1.5, mean of the channels (Wang 2004).

    The same number as `skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, channel_axis=...)`, which leaves out the 5 pixels along each border: so do
    the valid positions of the window here.

    Args:
        x: images, shape (N, C, H, W), at least 11 pixels a side.
        reference: what they should be, same shape.
        data_range: distance between the smallest and the largest possible value.

    Returns:
        float64, shape (N,), at most 1.

    Raises:
        FlowpriorError: the shapes differ, are not (N, C, H, W), or are smaller than the window.

    Example:
        >>> x = torch.rand(2, 3, 16, 16)
        >>> ssim(x, x)
        tensor([1., 1.], dtype=torch.float64)
    """
    check_pair(x, reference, data_range)
    if min(x.shape[-2:]) < WINDOW:
        raise FlowpriorError(
            f"SSIM needs images of at least {WINDOW} pixels a side, got {x.shape[-2]}x{x.shape[-1]}; "
            "raise the resolution"
        )
    parts = zip(x.split(_IMAGES_AT_ONCE), reference.split(_IMAGES_AT_ONCE), strict=True)
    return torch.cat([_ssim(a.double(), b.double(), data_range) for a, b in parts])


def _ssim(x: torch.Tensor, reference: torch.Tensor, data_range: float) -> torch.Tensor:
    c1, c2 = SSIM_C1 * data_range**2, SSIM_C2 * data_range**2
    mean_x, mean_r = blur(x), blur(reference)
    variance_x = blur(x * x) - mean_x**2
    variance_r = blur(reference * reference) - mean_r**2
    covariance = blur(x * reference) - mean_x * mean_r
    similarity = ((2 * mean_x * mean_r + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_r**2 + c1) * (variance_x + variance_r + c2)
    )
    return similarity.mean(dim=(1, 2, 3))


def blur(x: torch.Tensor) -> torch.Tensor:
    """SSIM's Gaussian weighted means of images (N, C, H, W), at the positions where the whole window fits.

    Two products with band matrices: many times faster on a CPU than a float64 convolution per channel.
    """
    return _bands(x.shape[-2], x) @ x @ _bands(x.shape[-1], x).T


def _bands(size: int, like: torch.Tensor) -> torch.Tensor:
    """The window at each of its positions along one side, shape (size - 10, size)."""
    offsets = torch.arange(size, dtype=like.dtype, device=like.device)
    distance = offsets[None, :] - (offsets[: size - WINDOW + 1, None] + WINDOW // 2)
    weights = torch.exp(-(distance**2) / (2 * SIGMA**2)) * (distance.abs() <= WINDOW // 2)
    return weights / weights.sum(dim=1, keepdim=True)


def _mse(x: torch.Tensor, reference: torch.Tensor, data_range: float) -> torch.Tensor:
    check_pair(x, reference, data_range)
    return (x.double() - reference.double()).square().mean(dim=(1, 2, 3))


def check_pair(x: torch.Tensor, reference: torch.Tensor, data_range: float = 1.0) -> None:
    """Refuse what cannot be compared image by image."""
    for images in (x, reference):
        if not isinstance(images, torch.Tensor):
            raise FlowpriorError(
                f"metrics compare torch tensors, got {type(images).__name__}; convert by torch.as_tensor"
            )
    if x.ndim != 4 or x.shape != reference.shape or math.prod(x.shape[1:]) == 0:
        raise FlowpriorError(
            "metrics compare two batches of the same shape (N, C, H, W), "
            f"got {tuple(x.shape)} and {tuple(reference.shape)}"
        )
    if x.device != reference.device:
        raise FlowpriorError(f"metrics compare on one device, got {x.device} and {reference.device}; move one by .to")
    if not (math.isfinite(data_range) and data_range > 0):
        raise FlowpriorError(f"data_range must be above 0, got {data_range}; 1.0 of images in [0, 1], 255 of bytes")
    whole = [not images.is_floating_point() for images in (x, reference)]
    if whole[0] != whole[1] or (whole[0] and data_range <= 1):
        raise FlowpriorError(
            f"images of {x.dtype} and {reference.dtype} do not go with data_range {data_range:g}; "
            "divide bytes by 255 and compare with data_range 1.0, or compare bytes alone with data_range 255"
        )
    _check_values(x, reference, data_range)


def _check_values(x: torch.Tensor, reference: torch.Tensor, data_range: float) -> None:
    """Raise if values are of another range.

    What a method makes may leave it, by much where it enlarges noise, but then on both sides.
    """
    low, high = _span(reference)
    if high - low > _OF_ANOTHER_RANGE * data_range:
        raise FlowpriorError(
            f"references have values from {low:.4g} to {high:.4g}, more than data_range {data_range:g}; "
            "divide both by 255, or set data_range to the range of the values"
        )
    low, high = _span(x)
    if low >= 0 and high > _FAR * data_range:
        raise FlowpriorError(
            f"images have values from {low:.4g} to {high:.4g}, far from data_range {data_range:g}; "
            "bring both to one range, such as [0, 1]"
        )


def _span(images: torch.Tensor) -> tuple[float, float]:
    """Smallest and largest finite value; 0 and 0 where there is none."""
    values = images.detach().double()
    finite = torch.isfinite(values)
    if not bool(finite.any()):
        return 0.0, 0.0
    return float(values[finite].min()), float(values[finite].max())
