"""Solvers as they come, told the noise and nothing else, on photographs and a flow trained for seconds."""

import numpy as np
import pytest
import torch

import flowprior as fp
from flowprior.images import photos
from flowprior.images.registry import source_of
from flowprior.images.settings import DataSettings
from flowprior.models import flows
from flowprior.models.flows.checkpoint import save_flow
from flowprior.models.gaussian import Gaussian
from flowprior.models.moments import MOMENTS, sample_moments, stored_moments, write_moments
from flowprior.solvers.memory import Memory
from flowprior.training.loop import train
from flowprior.training.settings import TrainingSettings

SIDE = 16
SHAPE = (3, SIDE, SIDE)


@pytest.fixture(scope="module")
def photographs():
    data = DataSettings(source="photos", resolution=SIDE, train=2000, path=str(photos._wheel_folder()))
    with source_of(data) as source:
        names = source.splits()
        return [np.stack([source.pixels(name) for name in names[part][:2000]]) for part in ("train", "test")]


@pytest.fixture(scope="module")
def flow(photographs):
    torch.manual_seed(0)
    fresh = flows.build("haar_glow", SHAPE, levels=3, steps=2, hidden=24)
    settings = TrainingSettings(
        steps=800, batch=64, learning_rate=4e-3, warmup=30, validate_every=800, ema=0.98, noise_std=0.01
    )
    return train(fresh, photographs[0], photographs[1][:8], 8, settings, (0,)).model


@pytest.fixture(scope="module")
def memory():
    return Memory()


def psnr_of(name, operator, y, prior, truth, memory, **settings):
    found = fp.solvers.solve(name, operator, y, prior, memory=memory, **settings)
    assert set(found.status) == {"ok"}
    return fp.evaluation.psnr(found.images, truth, data_range=1.0).mean()


@pytest.mark.parametrize("noise_std", [0.01, 0.02, 0.04])
@pytest.mark.parametrize("name", ["box_blur", "identity"])
def test_map_is_above_the_best_linear_estimate(flow, photographs, memory, name, noise_std):
    x = torch.from_numpy(photographs[1][:24]).permute(0, 3, 1, 2).float() / 255
    operator = fp.operators.build(name, SHAPE)
    y = operator.measure(x, noise_std, torch.Generator().manual_seed(1))
    gaussian = Gaussian.fit_pixels(photographs[0])
    linear = psnr_of("linear_mmse", operator, y, gaussian, x, memory, noise_std=noise_std)
    assert psnr_of("map", operator, y, flow, x, memory, noise_std=noise_std) > linear + 0.1


@pytest.mark.parametrize("noise_std", [0.0, 0.1])
@pytest.mark.parametrize("name", ["box_blur", "center_mask", "channel_mean", "gaussian_sensing"])
def test_map_needs_no_tuning_anywhere(flow, photographs, memory, name, noise_std):
    x = torch.from_numpy(photographs[1][:12]).permute(0, 3, 1, 2).float() / 255
    settings = {"measurements": 200} if name == "gaussian_sensing" else {}
    operator = fp.operators.build(name, SHAPE, **settings)
    y = operator.measure(x, noise_std, torch.Generator().manual_seed(1))
    gaussian = Gaussian.fit_pixels(photographs[0])
    linear = psnr_of("linear_mmse", operator, y, gaussian, x, memory, noise_std=max(noise_std, 0.001))
    assert psnr_of("map", operator, y, flow, x, memory, noise_std=noise_std) > linear - 0.5


@pytest.mark.parametrize("noise_std", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("name", ["identity", "box_blur", "gaussian_blur", "center_mask", "gaussian_sensing"])
def test_plug_and_play_needs_no_tuning(photographs, name, noise_std):
    """With the Gaussian as its denoiser it comes near to what that Gaussian's best linear estimate is."""
    x = torch.from_numpy(photographs[1][:24]).permute(0, 3, 1, 2).float() / 255
    settings = {"gaussian_sensing": {"measurements": 300}, "gaussian_blur": {"std": 1.5}}.get(name, {})
    operator = fp.operators.build(name, SHAPE, **settings)
    y = operator.measure(x, noise_std, torch.Generator().manual_seed(1))
    gaussian, memory = Gaussian.fit_pixels(photographs[0]), Memory()
    linear = psnr_of("linear_mmse", operator, y, gaussian, x, memory, noise_std=max(noise_std, 0.001))
    found = psnr_of("plug_and_play", operator, y, gaussian, x, memory, noise_std=noise_std)
    assert found > linear - (2 if name == "gaussian_sensing" else 0.5)


def test_images_too_large_for_a_covariance_begin_elsewhere():
    shape = (3, 128, 128)
    flow = flows.build("haar_glow", shape, levels=2, steps=1, hidden=4)
    operator = fp.operators.build("identity", shape)
    y = operator.measure(torch.rand(1, *shape), 0.1, torch.Generator().manual_seed(1))
    assert fp.solvers.solve("map", operator, y, flow, noise_std=0.1, steps=3).status == ("ok",)


class TestMomentsBesideACheckpoint:
    @pytest.fixture
    def folder(self, flow, tmp_path):
        save_flow(tmp_path, flow)
        write_moments(tmp_path / MOMENTS, flow, sample_moments(flow, 300, 7), 300, 7)
        return tmp_path

    def test_are_those_of_the_flow_that_was_read(self, flow, folder):
        read = flows.load(folder)
        found = stored_moments(read, 300, 7)
        torch.testing.assert_close(found.covariance, sample_moments(flow, 300, 7).covariance, rtol=0, atol=1e-6)
        assert stored_moments(read, 301, 7) is None and stored_moments(read, 300, 8) is None
        assert stored_moments(flow, 300, 7) is None

    def test_are_not_those_of_other_weights(self, folder):
        read = flows.load(folder)
        with torch.no_grad():
            next(read.parameters()).add_(0.01)
        assert stored_moments(read, 300, 7) is None

    def test_are_asked_for_by_a_search(self, folder, monkeypatch):
        monkeypatch.setattr("flowprior.solvers.moment_start.sample_moments", lambda *_: pytest.fail("drawn again"))
        operator = fp.operators.build("identity", SHAPE)
        y = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(1))
        found = fp.solvers.solve("map", operator, y, flows.load(folder), samples=300, seed=7, steps=2)
        assert found.status == ("ok",)

    def test_of_large_images_there_are_none(self, flow, folder):
        write_moments(folder / MOMENTS, flow, None, 300, 7)
        assert stored_moments(flows.load(folder), 300, 7) is None
