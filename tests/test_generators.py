"""Models that only make images: their sizes, their latents, and csgm by them alone."""

import pytest
import torch
from pieces import MODEL_SIDES, small_model

from flowprior import models, operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.models.capabilities import Decodes, Density, capabilities_of, missing
from flowprior.solvers.sizing import rows_at_once
from flowprior.training.energy import energy_score

#: Models that make images and know no density.
GENERATORS = [name for name in models.TRAINED.names() if capabilities_of(models.TRAINED.get(name)) == ("Decodes",)]


def latents(model, count, seed=1):
    return torch.randn(count, *model.latent_shape, generator=torch.Generator().manual_seed(seed))


def used(model):
    """Batch norms that have seen something."""
    model.train()
    with torch.no_grad():
        model.decode(latents(model, 32, seed=5))
    return model.eval()


@pytest.mark.parametrize("name", GENERATORS)
def test_decodes_each_latent_alone(name):
    model = used(small_model(name))
    assert isinstance(model, Decodes) and missing(model, Density) == ["log_prob"]
    z = latents(model, 4)
    images = model.decode(z)
    assert images.shape == (4, *model.shape) and images.min() < images.max()
    if name == "dcgan":
        assert images.min() >= 0 and images.max() <= 1
    torch.testing.assert_close(model.decode(z[2:3]), images[2:3])


@pytest.mark.parametrize("side", [16, 32, 64, 128])
def test_dcgan_has_every_size(side):
    model = models.build("dcgan", (3, side, side), width=2)
    assert model.decode(latents(model, 2)).shape == (2, 3, side, side)


def test_dcgan_of_asim_2020():
    """The paper prints the size of the model with that of its representation: 3,576,804."""
    model = models.build("dcgan", (3, 64, 64))
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert model.latent_shape == (100,) and weights == 3_576_704 and weights + 100 == 3_576_804


@pytest.mark.parametrize("shape", [(3, 48, 48), (3, 32, 64), (3, 8, 8), (3, 256, 256)])
def test_dcgan_says_which_sizes_it_has(shape):
    with pytest.raises(FlowpriorError, match=r"makes images of 16x16, 32x32, 64x64, 128x128, got"):
        models.build("dcgan", shape)


@pytest.mark.parametrize("name", GENERATORS)
def test_csgm_finds_an_image_that_the_model_makes(name):
    model = used(small_model(name))
    side = MODEL_SIDES[name]
    operator = operators.build("center_mask", (3, side, side))
    truth = model.decode(0.3 * latents(model, 3)).detach()
    settings = {"steps": 300, "learning_rate": 0.05, "gamma": 0.0, "init_std": 0.1, "restarts": 6, "combine": "best"}
    found = solvers.solve("csgm", operator, operator.A(truth), prior=model, **settings)
    assert found.status == ("ok",) * 3
    other = model.decode(latents(model, 3, seed=7))
    assert (found.images - truth.clamp(0, 1)).abs().mean() < 0.2 * (other - truth).abs().mean()
    alone = solvers.solve("csgm", operator, operator.A(truth)[1:2], prior=model, keys=["1"], **settings)
    torch.testing.assert_close(alone.images, found.images[1:2], atol=2e-3, rtol=0)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("solver", ["map", "chavez", "glowip", "linear_mmse"])
def test_what_needs_more_than_images_says_so(solver):
    model = small_model("dcgan")
    operator = operators.build("identity", model.shape)
    with pytest.raises(FlowpriorError, match=f"solver '{solver}' needs a"):
        solvers.solve(solver, operator, torch.rand(1, *model.shape), prior=model)


def test_a_start_from_the_measurement_needs_an_encoder():
    model = small_model("dcgan")
    operator = operators.build("identity", model.shape)
    with pytest.raises(FlowpriorError, match="'dcgan' finds no latent of an image; set start: origin"):
        solvers.solve("csgm", operator, torch.rand(1, *model.shape), prior=model, start="pseudo_inverse")


class TestEnergyScore:
    """It is lowest for samples of the images' own distribution."""

    def images(self, seed, count=512):
        source = torch.Generator().manual_seed(seed)
        coarse = torch.rand(count, 3, 4, 4, generator=source).repeat_interleave(4, 2).repeat_interleave(4, 3)
        return 0.7 * coarse + 0.3 * torch.rand(count, 3, 16, 16, generator=source)

    @pytest.mark.parametrize(
        "spoil",
        {
            "blurred": lambda x: torch.nn.functional.avg_pool2d(x, 3, 1, 1),
            "grey": lambda x: x.mean(1, keepdim=True).expand_as(x),
            "bright": lambda x: x + 0.1,
            "all alike": lambda x: x[:1].expand_as(x) + 1e-6 * x,
            "noisy": lambda x: x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(9)),
            "the mean": lambda x: x.mean(0, keepdim=True) + 1e-6 * x,
        }.items(),
        ids=lambda item: item[0],
    )
    def test_spoilt_samples_score_worse(self, spoil):
        held_out = self.images(1)
        assert energy_score(spoil[1](self.images(2)))(held_out).mean() > energy_score(self.images(2))(held_out).mean()

    def test_an_image_is_scored_alone(self):
        score, images = energy_score(self.images(1, 32)), self.images(2, 8)
        torch.testing.assert_close(score(images[3:4]), score(images)[3:4])


@pytest.mark.parametrize("name", GENERATORS)
def test_rows_of_a_batch_follow_from_what_a_model_keeps(name):
    """As of a flow: a larger model, or a search that holds more, takes fewer rows at once."""
    model, larger = small_model(name, width=16), small_model(name, width=64)
    assert 1 <= rows_at_once(larger) < rows_at_once(model) != 64
    assert rows_at_once(model, 1000) < rows_at_once(model, 10)
