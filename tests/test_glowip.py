"""GlowIP's objective and the starts that Asim et al. 2020 compare."""

import pytest
import torch
from pieces import shaken, small_flow, small_model

from flowprior import operators
from flowprior.errors import FlowpriorError
from flowprior.models.gaussian import Gaussian
from flowprior.solvers import solve

SHAPE = (3, 8, 8)
IDENTITY = operators.build("identity", SHAPE)
FLOW = small_flow("haar_glow", SHAPE, torch.float32)


def grey(count=2):
    """Images far from black and white, so that none is clipped."""
    return 0.5 + 0.08 * torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(3))


def first_image(**asked):
    """Where a search begins."""
    seen = []
    solve(
        "glowip", IDENTITY, grey(), FLOW, steps=1, learning_rate=1e-9, **asked, observer=lambda x: seen.append(x) or {}
    )
    return seen[0]


@pytest.mark.parametrize("penalty", ["squared", "norm"])
@pytest.mark.parametrize("value_range", [1.0, 2.0])
def test_its_loss_is_the_stated_one(penalty, value_range):
    asked = {"penalty": penalty, "value_range": value_range, "gamma": 0.3, "optimiser": "lbfgs", "steps": 40}
    found = solve("glowip", IDENTITY, grey(), FLOW, **asked)
    z = FLOW.encode(found.images)
    data_fit = (value_range * (found.images - grey())).square().flatten(1).sum(1)
    norm = z.norm(dim=1) if penalty == "norm" else z.square().sum(1)
    assert norm.min() > 0
    torch.testing.assert_close(found.trace.values["loss"][-1], (data_fit + 0.3 * norm).detach(), rtol=1e-3, atol=1e-3)


def test_the_least_loss_under_the_norm_is_at_the_origin_where_its_weight_is_heavy():
    found = solve("glowip", IDENTITY, grey(), FLOW, penalty="norm", gamma=1e3, optimiser="lbfgs", steps=100)
    origin = FLOW.decode(torch.zeros(2, *FLOW.latent_shape)).clamp(0, 1).detach()
    torch.testing.assert_close(found.images, origin, atol=1e-2, rtol=0)
    assert found.status == ("ok", "ok")


@pytest.mark.parametrize("norm", [0.0, 0.5, 2.0])
def test_a_first_latent_has_the_norm_that_is_asked_for(norm):
    begun = first_image(init_norm=norm)
    if norm < 1:
        assert begun.min() > 0 and begun.max() < 1, "clipped: its latent says nothing"
        torch.testing.assert_close(FLOW.encode(begun).norm(dim=1).detach(), torch.full((2,), norm), atol=1e-3, rtol=0)
    origin = first_image()
    assert torch.equal(begun, origin) == (norm == 0)


def test_a_search_begins_at_given_images():
    torch.testing.assert_close(first_image(start_images=grey()), grey(), atol=1e-4, rtol=0)


def test_starts_that_cannot_be_are_refused():
    with pytest.raises(FlowpriorError, match="give one for each"):
        solve("glowip", IDENTITY, grey(), FLOW, start_images=grey(1))
    with pytest.raises(FlowpriorError, match="begins at no given images"):
        solve("linear_mmse", IDENTITY, grey(), Gaussian.fit(grey(40)), start_images=grey())
    gan = shaken(small_model("dcgan"))
    y = torch.rand(1, 3, 16, 16)
    for asked in ({"start": "pseudo_inverse"}, {"start_images": y}):
        with pytest.raises(FlowpriorError, match="finds no latent of an image"):
            solve("csgm", operators.build("identity", (3, 16, 16)), y, gan, **asked)
