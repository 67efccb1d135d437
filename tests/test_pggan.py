"""PGGAN: its sizes, how it grows, and that a training killed while it grows ends with the same bits."""

import pytest
import torch
from pieces import pictures
from test_trained_models import KilledError, Watcher, same_weights

from flowprior import models
from flowprior.errors import FlowpriorError
from flowprior.models.generators.growing import Discriminator, Stage, stage_at
from flowprior.models.networks.equalised import Equalised, pixel_norm, with_deviation
from flowprior.training.loop import train
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import trainable_of

SMALL = {"latent": 6, "width": 8}


def small(side=16, **settings):
    torch.manual_seed(0)
    return models.build("pggan", (3, side, side), **{**SMALL, **settings})


def test_pggan_of_asim_2020():
    """The paper prints the size of the model with that of its representation: 13,625,904."""
    model = models.build("pggan", (3, 128, 128))
    by_kind = {"weight": 0, "bias": 0, "scale": 0}
    for name, value in model.state_dict().items():
        by_kind[name.rpartition(".")[2]] += value.numel()
    assert by_kind == {"weight": 13_622_368, "bias": 3_011, "scale": 13}
    assert sum(by_kind.values()) == 13_625_392 and model.latent_shape == (512,)
    assert sum(by_kind.values()) + 512 == 13_625_904


@pytest.mark.parametrize("side", [8, 16, 64])
def test_it_has_every_power_of_two(side):
    model = small(side)
    assert model.decode(torch.randn(2, 6)).shape == (2, 3, side, side)


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 48, 48), (3, 16, 32)])
def test_it_says_which_sizes_it_has(shape):
    with pytest.raises(FlowpriorError, match=rf"a power of two from 8 on, got {shape[1]}x{shape[2]}; set"):
        models.build("pggan", shape)


def test_what_goes_out_of_a_layer_has_the_deviation_of_what_comes_in():
    torch.manual_seed(0)
    x = torch.randn(64, 32, 8, 8)
    with torch.no_grad():
        made = Equalised(32, 64, 3, 1, gain=1.0)(x)
    assert float(made[:, :, 1:-1, 1:-1].std()) == pytest.approx(1.0, rel=0.05)
    torch.testing.assert_close(pixel_norm(5 * x).square().mean(1), torch.ones(64, 8, 8))


def test_a_discriminator_sees_images_that_are_all_alike():
    x = torch.randn(8, 3, 4, 4)
    assert with_deviation(x).shape == (8, 4, 4, 4)
    assert float(with_deviation(x)[:, 3].min()) > 0.3
    assert float(with_deviation(x[:1].expand(8, -1, -1, -1))[:, 3].max()) < 1e-3
    assert with_deviation(x[:7]).shape == (7, 4, 4, 4)  # of seven images every one is a group of its own


def test_sizes_are_faded_in_one_after_the_other():
    seen = [stage_at(step, 40, 2) for step in range(50)]
    assert [stage.level for stage in seen] == sorted(stage.level for stage in seen)
    assert seen[0] == seen[9] == Stage(0, 1.0) and seen[10] == Stage(1, 0.0) and seen[15] == Stage(1, 0.5)
    assert seen[20] == seen[29] == Stage(1, 1.0) and seen[30] == Stage(2, 0.0)
    assert seen[40] == seen[49] == Stage(2, 1.0)


def training_of(model, steps=8):
    settings = TrainingSettings(steps=steps, batch=4)
    return trainable_of(model, settings, 8)


@pytest.mark.parametrize("step", range(8))
def test_at_every_stage_all_that_is_seen_learns(step):
    trainable = training_of(small(growth=1.0))
    trainable.begin(step)
    stage = trainable._stage
    source = torch.Generator().manual_seed(1)
    examples = trainable.examples(torch.from_numpy(pictures(4, 0, 16).transpose(0, 3, 1, 2).copy()), source)
    grads = {}
    for player in trainable.players():
        loss, found = trainable.gradients(player.name, [examples], 0.25, lambda f, parts: [f(part) for part in parts])
        assert torch.isfinite(loss) and len(found) == len(list(player.module.parameters()))
        grads[player.name] = dict(zip((name for name, _ in player.module.named_parameters()), found, strict=True))
    for name, gradient in grads["generator"].items():
        if name.startswith("blocks"):
            level = int(name.split(".")[1])
            seen = level < stage.level or (level == stage.level and stage.part > 0)
            assert bool(gradient.any()) == seen, name
    assert bool(grads["generator"]["to_colours.weight"].any()) == (stage.level == 2 and stage.part > 0)
    for level in (0, 1):
        seen = (stage.level == level and stage.part > 0) or (stage.level == level + 1 and stage.part < 1)
        assert bool(grads["small"][f"{level}.weight"].any()) == seen
    assert grads["discriminator"]["last.0.weight"].any()


def test_fading_in_is_smooth():
    """Where a size begins, images are those of the size before, enlarged; where it is whole, its own."""
    trainable, latents = training_of(small(growth=1.0), steps=4), torch.randn(2, 6)
    images = torch.rand(2, 3, 16, 16)
    seen = {}
    for stage in (Stage(0, 1.0), Stage(1, 0.0), Stage(1, 1.0), Stage(2, 0.0)):
        trainable._stage = stage
        seen[stage] = trainable._made(latents), trainable._seen(images)
    for before, after in ((Stage(0, 1.0), Stage(1, 0.0)), (Stage(1, 1.0), Stage(2, 0.0))):
        for old, new in zip(seen[before], seen[after], strict=True):
            torch.testing.assert_close(new, old.repeat_interleave(2, 2).repeat_interleave(2, 3))
    judge = Discriminator((3, 16, 16), 8)
    small_images = seen[Stage(1, 1.0)][1]
    torch.testing.assert_close(
        judge(small_images.repeat_interleave(2, 2).repeat_interleave(2, 3), Stage(2, 0.0)),
        judge(small_images, Stage(1, 1.0)),
    )


def test_killed_while_it_grows_it_ends_with_the_same_bits(tmp_path):
    settings = TrainingSettings(steps=20, batch=4, validate_every=7, warmup=0, learning_rate=1e-3, beta1=0.0)

    def run(folder=None, progress=None):
        data = pictures(20, 0, 16), pictures(8, 1, 16)
        return train(small(growth=1.0), *data, 8, settings, (0, "grow"), folder, progress)

    alone = run()
    with pytest.raises(KilledError):
        run(tmp_path, Watcher(at=10))
    watcher = Watcher()
    resumed = run(tmp_path, watcher)
    assert watcher.resumed == [7] and stage_at(7, 20, 2) == Stage(1, pytest.approx(0.4))
    assert same_weights(alone.model, resumed.model)
    assert [row["loss_generator"] for row in alone.history] == [row["loss_generator"] for row in resumed.history]
