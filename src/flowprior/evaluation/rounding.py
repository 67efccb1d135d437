"""What an 8-bit picture says of the PSNR and SSIM of the image it was rounded from: an interval, and no less.

A stored value is the image's, rounded to the nearest of 256: it is off by at most half a grey level, 1/510 of the
range. Root mean squares are norms, so the triangle inequality bounds them: the root of the mean squared error moves by
at most 1/510. That is 0.5 dB at 30 dB and 0.17 dB at 20 dB; nothing is assumed of how the roundings are distributed.
"""

from __future__ import annotations

import torch

from flowprior.evaluation.metrics import SSIM_C1, SSIM_C2, blur, psnr

#: By how much a stored value may be off, of values in [0, 1].
HALF_LEVEL = 0.5 / 255
#: Of float32 images and of sums, far below any rounding to 8 bits.
SLACK = 1e-6

Interval = tuple[torch.Tensor, torch.Tensor]


def psnr_interval(stored: torch.Tensor, reference: torch.Tensor) -> Interval:
    """Between what bounds the PSNR of the image lay that was stored with 8 bits.

    Args:
        stored: images (N, C, H, W) in [0, 1] whose values are whole grey levels.
        reference: what they are compared with, of any values.

    Returns:
        The smallest and the largest, float64 (N,); `inf` where the image may have been the reference itself.

    Example:
        >>> low, high = psnr_interval(torch.full((1, 3, 4, 4), 0.2), torch.zeros(1, 3, 4, 4))
        >>> low.round(decimals=2).item(), high.round(decimals=2).item()
        (13.89, 14.07)
    """
    error = 10 ** (-psnr(stored, reference) / 20)
    reach = HALF_LEVEL + SLACK
    return -20 * torch.log10(error + reach), -20 * torch.log10((error - reach).clamp(min=0))


def ssim_interval(stored: torch.Tensor, reference: torch.Tensor) -> Interval:
    """The same for SSIM, window by window.

    Both factors of SSIM have the form 1 - d^2 / (a^2 + b^2 + c): for the means, a and b are they and d is their
    difference; for the structure they are the deviations from the means and their difference, as root mean squares over
    the window. d and a, which the image enters, each move by at most half a grey level; b is the reference's own.

    Args:
        stored: images (N, C, H, W) in [0, 1] whose values are whole grey levels.
        reference: what they are compared with, of any values.

    Returns:
        The smallest and the largest, float64 (N,).
    """
    x, r = stored.double(), reference.double()
    mean_x, mean_r = blur(x), blur(r)
    variance_x = (blur(x * x) - mean_x**2).clamp(min=0)
    variance_r = (blur(r * r) - mean_r**2).clamp(min=0)
    covariance = blur(x * r) - mean_x * mean_r
    means = _factor((mean_x - mean_r).abs(), mean_x.abs(), mean_r**2, SSIM_C1)
    distance = (variance_x + variance_r - 2 * covariance).clamp(min=0).sqrt()
    structure = _factor(distance, variance_x.sqrt(), variance_r, SSIM_C2)
    products = torch.stack([one * other for one in means for other in structure])
    low, high = products.amin(dim=0), products.amax(dim=0)
    return low.mean(dim=(1, 2, 3)) - SLACK, high.mean(dim=(1, 2, 3)) + SLACK


def _factor(distance: torch.Tensor, size: torch.Tensor, other_squared: torch.Tensor, c: float) -> Interval:
    reach = HALF_LEVEL + SLACK
    far, near = distance + reach, (distance - reach).clamp(min=0)
    small, large = (size - reach).clamp(min=0), size + reach
    return 1 - far**2 / (small**2 + other_squared + c), 1 - near**2 / (large**2 + other_squared + c)
