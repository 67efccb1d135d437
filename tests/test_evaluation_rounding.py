"""What a stored picture says of PSNR and SSIM: an interval that holds the value, and not much else."""

import numpy as np
import pytest
import torch

from flowprior.evaluation import psnr, ssim
from flowprior.evaluation.rounding import psnr_interval, ssim_interval
from flowprior.images.quantise import to_float, to_pixels


@pytest.mark.parametrize("std", [0.0005, 0.003, 0.02, 0.1])
@pytest.mark.parametrize("flat", [False, True])
def test_the_interval_holds_the_value(std, flat):
    random = torch.Generator().manual_seed(1)
    reference = torch.full((4, 3, 16, 16), 0.3) if flat else torch.rand(4, 3, 16, 16, generator=random)
    x = (reference + std * torch.randn(reference.shape, generator=random)).clamp(0, 1)
    stored = to_float(to_pixels(x))
    for metric, interval in ((psnr, psnr_interval), (ssim, ssim_interval)):
        low, high = interval(stored, reference)
        value = metric(x, reference).double()
        assert ((low <= value) & (value <= high)).all()


def test_the_bound_of_psnr_is_reached():
    """All values off by half a level in one direction: what the interval must allow for, and no more."""
    reference = torch.zeros(1, 3, 16, 16)
    for off, end in ((0.4999, 1), (-0.4999, 0)):
        x = torch.full_like(reference, (20 + off) / 255)
        stored = to_float(to_pixels(x))
        assert stored.unique().item() == pytest.approx(20 / 255)
        bounds = psnr_interval(stored, reference)
        assert bounds[1 - end].item() == pytest.approx(psnr(x, reference).item(), abs=2e-3)


def test_intervals_are_narrow_where_errors_are_larger_than_levels():
    random = torch.Generator().manual_seed(1)
    reference = torch.rand(2, 3, 16, 16, generator=random)
    stored = to_float(to_pixels((reference + 0.1 * torch.randn(reference.shape, generator=random)).clamp(0, 1)))
    for interval, width in ((psnr_interval, 0.4), (ssim_interval, 0.02)):
        low, high = interval(stored, reference)
        assert ((high - low) < width).all()


def test_a_picture_of_the_reference_itself_may_be_exact():
    reference = to_float(np.random.default_rng(0).integers(0, 256, (1, 12, 12, 3)).astype(np.uint8))
    assert psnr_interval(reference, reference)[1].isinf().all()
