"""The network that takes away noise of any level: what it is told, what it learns, whom it depends on."""

import numpy as np
import pytest
import torch
from pieces import pictures, shaken, small_model

from flowprior import models
from flowprior.errors import FlowpriorError
from flowprior.evaluation import psnr
from flowprior.images.quantise import to_float
from flowprior.models.capabilities import Decodes, Denoises, Solves
from flowprior.models.networks.proximal import NetworkSettings, proximal_network
from flowprior.models.networks.resnet import ResNet
from flowprior.training.batches import Batches
from flowprior.training.loop import train
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import trainable_of

SETTINGS = TrainingSettings(steps=250, batch=16, validate_every=50, warmup=10, learning_rate=5e-3, ema=0.9)
KINDS = [{}, {"network": "resnet", "width": 8}, {"network": "resnet", "width": 8, "norm": "none"}]


def source(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module", params=KINDS, ids=str)
def learned(request):
    settings = {"width": 8, **request.param}
    return train(small_model("denoiser", **settings), pictures(200), pictures(16, 1), 8, SETTINGS, (0, "test"))


def test_it_denoises_and_nothing_else():
    model = small_model("denoiser")
    assert isinstance(model, Denoises) and not isinstance(model, Decodes) and not isinstance(model, Solves)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_fresh_it_leaves_an_image_as_it_is(kind):
    x = torch.rand(2, 3, 8, 8, generator=source())
    assert torch.equal(small_model("denoiser", **kind).denoise(x, 0.1), x)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shape", [(3, 8, 12), (1, 4, 4)])
def test_each_image_has_its_own_level_and_is_its_own_problem(kind, shape):
    model = shaken(models.build("denoiser", shape, **{"width": 4, **kind}))
    x, levels = torch.rand(3, *shape, generator=source()), torch.tensor([0.05, 0.1, 0.2])
    together = model.denoise(x, levels)
    for i in range(3):
        alone = model.denoise(x[i : i + 1], float(levels[i]))
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=0)
    assert not torch.allclose(model.denoise(x, 0.05)[1], together[1])
    assert torch.equal(model.denoise(x, 0.5), model.denoise(x, 0.7))  # more than it has learned


def test_it_learns_noise_of_every_level(learned):
    x = to_float(pictures(64, 2))
    noise = torch.randn(x.shape, generator=source())
    for level, wanted in ((0.07, 1.0), (0.15, 3.0), (0.3, 5.0)):
        noisy = x + level * noise
        with torch.no_grad():
            gain = psnr(learned.model.denoise(noisy, level), x) - psnr(noisy, x)
        assert float(gain.mean()) > wanted


def test_the_level_that_it_is_told_counts(learned):
    """Told that there is more noise it takes more away: the truth is the best of three levels."""
    x = to_float(pictures(64, 2))
    noisy = x + 0.2 * torch.randn(x.shape, generator=source())
    small, true, large = (
        float(psnr(learned.model.denoise(noisy, told).detach(), x).mean()) for told in (0.02, 0.2, 0.5)
    )
    assert true > small and true > large


def test_training_says_what_it_is_on_other_images(learned):
    x = to_float(pictures(64, 2))
    noisy = x + 0.25 * torch.randn(x.shape, generator=source())
    found = psnr(learned.model.denoise(noisy, 0.25).detach().clamp(0, 1), x).mean()
    assert float(found) == pytest.approx(learned.score, abs=1.0)


def test_levels_are_uniform_and_noise_is_of_its_level():
    model = small_model("denoiser", max_std=0.2)
    trainable = trainable_of(model, SETTINGS.model_copy(update={"batch": 600}), 8)
    noisy, levels, images = Batches(np.full((600, 8, 8, 3), 100, np.uint8), trainable, (0, "test")).at(0)
    assert levels.shape == (600, 1, 1, 1) and levels.min() >= 0 and levels.max() <= 0.2
    assert float(levels.mean()) == pytest.approx(0.1, abs=0.01)
    assert float(levels.std()) == pytest.approx(0.2 / 12**0.5, rel=0.05)
    assert float(((noisy - images) / levels).std()) == pytest.approx(1, rel=0.02)
    _, middle, _ = trainable.held_out(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), source())
    assert middle.flatten().tolist() == pytest.approx([0.1] * 3)


def test_the_norm_counts_the_training_images():
    """What a batch norm has seen goes into the averaged weights; without averages it would still stand at its start."""
    settings = SETTINGS.model_copy(update={"steps": 40, "validate_every": 20})
    kind = {"network": "resnet", "width": 8}
    found = train(small_model("denoiser", **kind), pictures(64), pictures(16, 1), 8, settings, (0, "test"))
    seen = dict(found.model.network.named_buffers())
    assert seen and not found.model.training
    assert not any(torch.equal(value, torch.zeros_like(value)) for name, value in seen.items() if "mean" in name)
    assert trainable_of(small_model("denoiser", **kind), SETTINGS, 8).divisible is False
    assert trainable_of(small_model("denoiser", **kind, norm="none"), SETTINGS, 8).divisible is True


def test_the_resnet_of_the_paper():
    """Two blocks of two 3x3 convolutions with 128 maps, then three 1x1 convolutions."""
    network = proximal_network("resnet", 4, 3, NetworkSettings())
    weights = [tuple(p.shape) for p in network.parameters() if p.ndim == 4]
    assert weights.count((128, 128, 3, 3)) == 3 and weights.count((128, 4, 3, 3)) == 1
    assert [shape for shape in weights if shape[2:] == (1, 1)] == [
        (128, 4, 1, 1),  # the first skip
        (128, 128, 1, 1),
        (128, 128, 1, 1),
        (3, 128, 1, 1),
    ]
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules()) == 4


def test_a_batch_norm_depends_on_the_batch_only_in_training():
    network = shaken(ResNet(3, 3, 6, 2))
    x = torch.rand(4, 3, 8, 8, generator=source())
    network.train()
    assert not torch.allclose(network(x)[:2], network(x[:2]))
    network.eval()
    torch.testing.assert_close(network(x)[:2], network(x[:2]))


def test_what_it_is_not_told():
    with pytest.raises(FlowpriorError, match="with 2 levels needs height and width divisible by 4, got 10x8"):
        models.build("denoiser", (3, 10, 8))
    assert models.build("denoiser", (3, 10, 9), network="resnet", width=4).shape == (3, 10, 9)
    noisy = SETTINGS.model_copy(update={"noise_std": 0.01})
    with pytest.raises(FlowpriorError, match=r"model 'denoiser' has none, got 0\.01"):
        trainable_of(small_model("denoiser"), noisy, 8)
    with pytest.raises(FlowpriorError, match=r"noise is on values in \[0, 1\], got 25"):
        models.build("denoiser", (3, 8, 8), max_std=25)


def test_the_grid_shows_target_noise_and_answer():
    model = small_model("denoiser")
    grid = trainable_of(model, SETTINGS, 8).grid(model, pictures(20), 0)
    assert grid.rows.shape == (3, 16, 8, 8, 3) and grid.facts["rows"] == ["target", "noisy", "denoised"]
    assert np.array_equal(grid.rows[0], pictures(20)[:16]) and np.array_equal(grid.rows[1], grid.rows[2])
