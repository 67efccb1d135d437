"""Image-adaptive generators: weights of its own for each image, and the prior's own as they were."""

import pytest
import torch
from pieces import MODEL_SIDES, small_flow, small_model, small_operator

from flowprior import operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.models.adapted import Adapted
from flowprior.solvers.sizing import rows_at_once

NAMES = ("a", "b", "c")
QUICK = {"latent_steps": 30, "steps": 30, "learning_rate": 1e-3}


def generator_of(name="dcgan"):
    model = small_model(name)
    model.train()
    with torch.no_grad():
        model.decode(torch.randn(32, *model.latent_shape, generator=torch.Generator().manual_seed(5)))
    return model.eval()


PRIORS = {
    "dcgan": generator_of,
    "haar_glow": lambda: small_flow("haar_glow", dtype=torch.float32),
    "glow": lambda: small_flow("glow", dtype=torch.float32),
    "chavez": lambda: small_flow("chavez", dtype=torch.float32),
}


def problem(prior, name="identity", count=3):
    operator = small_operator(name, prior.shape)
    x = 0.3 + 0.4 * torch.rand(count, *prior.shape, generator=torch.Generator().manual_seed(2))
    return operator, operator.measure(x, 0.02, torch.Generator().manual_seed(4))


def weights_of(prior):
    return {name: value.clone() for name, value in prior.state_dict().items()}


@pytest.mark.parametrize("name", PRIORS)
def test_an_adapted_model_is_the_model_with_those_weights(name):
    prior = PRIORS[name]()
    adapted, before = Adapted(prior), weights_of(prior)
    source = torch.Generator().manual_seed(3)
    latents = torch.randn(2, *prior.latent_shape, generator=source)
    changes = 0.01 * torch.randn(2, adapted.parameters, generator=source)
    images = adapted.images(latents.flatten(1), changes)
    for latent, change, image in zip(latents, changes, images, strict=True):
        with torch.no_grad():
            start = 0
            for parameter in prior.parameters():
                parameter += change[start : start + parameter.numel()].reshape(parameter.shape)
                start += parameter.numel()
            torch.testing.assert_close(prior.decode(latent[None])[0], image, rtol=1e-4, atol=1e-5)
        prior.load_state_dict(before)


@pytest.mark.parametrize("name", PRIORS)
def test_the_prior_is_untouched_and_images_alone_are_as_in_a_batch(name):
    prior = PRIORS[name]()
    operator, y = problem(prior, "box_blur")
    before = weights_of(prior)
    together = solvers.solve("iagan", operator, y, prior, keys=NAMES, restarts=2, **QUICK)
    assert together.status == ("ok",) * 3
    after = prior.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in prior.parameters())
    for i, key in enumerate(NAMES):
        alone = solvers.solve("iagan", operator, y[i : i + 1], prior, keys=[key], restarts=2, **QUICK)
        torch.testing.assert_close(alone.images, together.images[i : i + 1], rtol=0, atol=5e-3)
        assert alone.passes[0] == together.passes[i]


@pytest.mark.parametrize("name", ["dcgan", "haar_glow"])
def test_it_goes_on_from_the_best_latent_and_gains(name):
    prior = PRIORS[name]()
    operator, y = problem(prior)
    csgm = {"gamma": 0.0, "steps": 30, "restarts": 2, "combine": "best", "tolerance": 0.0, "keys": NAMES}
    first = solvers.solve("csgm", operator, y, prior, **csgm)
    told = []
    settings = {**QUICK, "learning_rate": 0.02, "restarts": 2, "tolerance": 0.0, "keys": NAMES}
    found = solvers.solve(
        "iagan", operator, y, prior, progress=lambda step, steps: told.append((step, steps)), **settings
    )
    still = solvers.solve("iagan", operator, y, prior, **{**settings, "learning_rate": 1e-12})
    torch.testing.assert_close(still.images, first.images, rtol=0, atol=1e-4)
    loss = found.trace.values["loss"]
    assert torch.equal(loss[: len(first.trace.passes)], first.trace.values["loss"])
    assert bool((loss[-1] < 0.9 * first.trace.values["loss"][-1]).all())
    assert bool((found.passes == first.passes + 61).all())
    assert found.trace.passes[-1] == first.trace.passes[-1] + 60
    assert bool((found.trace.seconds.diff() >= 0).all())
    assert told == sorted(told) and told[-1] == (60, 60)


def test_what_has_no_weights_says_so():
    class Fixed:
        shape, latent_shape = (3, 8, 8), (4,)

        def decode(self, z):
            return z.new_zeros(len(z), *self.shape)

    operator = operators.build("identity", (3, 8, 8))
    with pytest.raises(FlowpriorError, match="Fixed has no weights to adapt to an image; give a torch module"):
        solvers.solve("iagan", operator, torch.rand(1, 3, 8, 8), Fixed())


def test_rows_of_a_batch_hold_weights():
    solver = solvers.REGISTRY.get("iagan")(solvers.REGISTRY.settings("iagan"))
    small, large = small_model("dcgan"), small_model("dcgan", width=32)
    of_small, of_large = (solver.own_values(model.shape, model) for model in (small, large))
    assert of_small >= 8 * sum(parameter.numel() for parameter in small.parameters())
    assert rows_at_once(small, own=of_small) < rows_at_once(small)
    assert rows_at_once(large, own=of_large) < rows_at_once(small, own=of_small)
    assert MODEL_SIDES["dcgan"] == small.shape[1]
