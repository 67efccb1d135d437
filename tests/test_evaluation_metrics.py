"""Metrics agree with scikit-image, per image, and with the definitions of Chávez 2021."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import flowprior
from flowprior.errors import FlowpriorError
from flowprior.evaluation import psnr, psnr_chavez2021, ssim


def natural(n: int, height: int, width: int) -> torch.Tensor:
    picture = data.astronaut()
    cuts = [picture[40 * i : 40 * i + height, 30 * i : 30 * i + width] for i in range(n)]
    return torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2).float() / 255


def noisy(x: torch.Tensor, std: float) -> torch.Tensor:
    return (x + std * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


CASES = {
    "natural": natural(3, 32, 32),
    "not square": natural(2, 17, 40),
    "one window": natural(2, 11, 11),
    "random": torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0)),
    "flat": torch.full((2, 3, 16, 16), 0.5),
    "grey": natural(2, 20, 20)[:, :1],
    "more than are computed at once": natural(3, 16, 16).repeat(23, 1, 1, 1),
}


@pytest.mark.parametrize("std", [0.01, 0.3])
@pytest.mark.parametrize("case", CASES)
def test_psnr_and_ssim_are_those_of_scikit_image(case, std):
    reference = CASES[case]
    x = noisy(reference, std)
    pairs = list(zip(x.double().numpy(), reference.double().numpy(), strict=True))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 0}
    their_ssim = [structural_similarity(a, b, data_range=1.0, **options) for a, b in pairs]
    their_psnr = [peak_signal_noise_ratio(b, a, data_range=1.0) for a, b in pairs]
    assert psnr(x, reference).tolist() == pytest.approx(their_psnr, abs=1e-6)
    assert ssim(x, reference).tolist() == pytest.approx(their_ssim, abs=1e-6)


@pytest.mark.parametrize("metric", [psnr, ssim, psnr_chavez2021])
def test_every_image_is_judged_alone(metric):
    reference = natural(4, 16, 16)
    x = noisy(reference, 0.1)
    together = metric(x, reference)
    assert together.shape == (4,)
    alone = torch.cat([metric(x[i : i + 1], reference[i : i + 1]) for i in range(4)])
    assert torch.allclose(together, alone, rtol=0, atol=1e-12)
    assert len(set(together.tolist())) == 4


@pytest.mark.parametrize("metric", [psnr, ssim, psnr_chavez2021])
def test_the_scale_of_the_values_does_not_matter(metric):
    reference = natural(2, 16, 16)
    x = noisy(reference, 0.1)
    assert torch.allclose(metric(x * 255, reference * 255, data_range=255.0), metric(x, reference), atol=1e-4)


def test_the_papers_psnr_is_half_the_true_one_and_an_offset():
    reference = natural(3, 16, 16)
    x = noisy(reference, 0.1)
    expected = (psnr(x, reference) + 20 * np.log10(255)) / 2
    assert torch.allclose(psnr_chavez2021(x, reference), expected, atol=1e-9)


def test_identical_images_are_infinitely_good_and_nan_stays_nan():
    x = natural(2, 16, 16)
    assert psnr(x, x).tolist() == [float("inf")] * 2
    assert ssim(x, x).tolist() == pytest.approx([1, 1])
    broken = x.clone()
    broken[1, 0, 3, 3] = float("nan")
    values = psnr(broken, x)
    assert values[0].isinf()
    assert values[1].isnan()


@pytest.mark.parametrize("metric", [psnr, ssim, psnr_chavez2021])
def test_shapes_that_do_not_fit_are_refused(metric):
    with pytest.raises(FlowpriorError, match=r"same shape \(N, C, H, W\), got \(1, 3, 16, 16\) and \(2, 3, 16, 16\)"):
        metric(torch.rand(1, 3, 16, 16), torch.rand(2, 3, 16, 16))
    with pytest.raises(FlowpriorError, match="same shape"):
        metric(torch.rand(3, 16, 16), torch.rand(3, 16, 16))


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(FlowpriorError, match="at least 11 pixels a side, got 8x16"):
        ssim(torch.rand(1, 3, 8, 16), torch.rand(1, 3, 8, 16))


def test_the_package_shows_its_functions_and_imports_nothing_heavy_before():
    assert flowprior.evaluation.psnr is psnr
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        flowprior.evaluation.nothing_of_the_kind  # noqa: B018
    code = (
        "import sys, flowprior.evaluation, flowprior.report; "
        "print({'torch', 'pandas', 'skimage', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
