"""HaarPSI agrees with its definition in plain convolutions, and behaves as a measure of likeness should."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from skimage import data
from skimage.transform import resize

from flowprior.errors import FlowpriorError
from flowprior.evaluation.perceptual import haarpsi, lpips, lpips_absent

SIZES = [16, 32, 64, 128]


def picture(side: int) -> torch.Tensor:
    cut = resize(data.astronaut()[:256, 100:356], (side, side), anti_aliasing=True)
    return torch.from_numpy(cut).permute(2, 0, 1)[None].float()


def noisy(x: torch.Tensor, std: float) -> torch.Tensor:
    return (x + std * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


def same(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolution whose output begins at the middle of the kernel, as MATLAB's."""
    full = convolve2d(image, kernel)
    at = [size // 2 for size in kernel.shape]
    return full[at[0] : at[0] + image.shape[0], at[1] : at[1] + image.shape[1]]


def by_definition(x: np.ndarray, reference: np.ndarray) -> float:
    """Reisenhofer et al. 2018, Eq. 10 to 14 for colours, one kernel after the other; images (3, H, W) in [0, 1]."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

    def halved(image):
        return same(image, np.full((2, 2), 0.25))[::2, ::2]

    def channels(image):
        return [halved(channel) for channel in np.einsum("ij,jhw->ihw", to_yiq, 255 * image)]

    def alike(a, b):
        return (2 * a * b + 30) / (a**2 + b**2 + 30)

    def haar(image, level, transposed):
        kernel = np.full((2**level, 2**level), 2.0**-level)
        kernel[: 2 ** (level - 1)] *= -1
        return np.abs(same(image, kernel.T if transposed else kernel))

    ours, theirs = channels(x), channels(reference)
    similar, weights = [], []
    for transposed in (False, True):
        pairs = [[haar(image[0], level, transposed) for image in (ours, theirs)] for level in (1, 2, 3)]
        similar.append((alike(*pairs[0]) + alike(*pairs[1])) / 2)
        weights.append(np.maximum(*pairs[2]))
    means = [[np.abs(same(image[i], np.full((2, 2), 0.25))) for image in (ours, theirs)] for i in (1, 2)]
    similar.append((alike(*means[0]) + alike(*means[1])) / 2)
    weights.append((weights[0] + weights[1]) / 2)
    s, w = np.array(similar), np.array(weights)
    mean = (w / (1 + np.exp(-4.2 * s))).sum() / w.sum()
    return (np.log(mean / (1 - mean)) / 4.2) ** 2


@pytest.mark.parametrize("std", [0.02, 0.2])
@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (32, 32), (64, 64), (128, 128)])
def test_haarpsi_is_that_of_the_definition(shape, std):
    reference = picture(128)[..., : shape[0], : shape[1]]
    x = noisy(reference, std)
    expected = by_definition(x[0].double().numpy(), reference[0].double().numpy())
    assert haarpsi(x, reference).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("side", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_haarpsi_is_one_at_equality_symmetric_and_falls_with_noise(side, channels):
    x = torch.cat([picture(side), picture(side)[:, :1]], 1)[:, :channels]
    values = [haarpsi(noisy(x, std), x).item() for std in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)]
    assert values[0] == pytest.approx(1, abs=1e-9)
    assert all(before > after > 0 for before, after in pairwise(values))
    assert haarpsi(x, noisy(x, 0.1)).item() == pytest.approx(values[3], abs=1e-12)


def test_haarpsi_sees_lost_colour_which_luminance_does_not_show():
    x = picture(32)
    luma = (x * torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)).sum(1, keepdim=True).expand_as(x)
    assert haarpsi(luma, x).item() < 0.9


def test_two_black_images_are_alike_and_a_nan_is_no_likeness():
    black = torch.zeros(2, 3, 16, 16)
    assert haarpsi(black, black).tolist() == [1, 1]
    broken = picture(16)
    broken[0, 0, 3, 3] = float("nan")
    assert haarpsi(broken, picture(16)).isnan().all()


@pytest.mark.skipif(bool(lpips_absent()), reason=lpips_absent() or "lpips is there")
def test_lpips_is_zero_at_equality_and_grows_with_noise():
    x = picture(64)
    values = [lpips(noisy(x, std), x).item() for std in (0.0, 0.05, 0.2, 0.4)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values == sorted(values)
    assert lpips(picture(16), picture(16)).isnan().all()


def test_without_the_package_or_its_weights_lpips_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FlowpriorError, match=r"pip install lpips|put alexnet.* there"):
        lpips(picture(32), picture(32))
