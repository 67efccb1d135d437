"""What is hard for a deep Glow: one image, pictures unlike any, 128 pixels, rough weights, an empty spread."""

import pytest
import torch
from pieces import ASIM2020, SMALL_FLOWS, STABLE, small_flow, small_operator

from flowprior import solvers
from flowprior.models import flows
from flowprior.models.capabilities import Decodes, Density, Invertible
from flowprior.models.flows.layers import ActNorm
from flowprior.operators.checking import FAR

SHAPE = (3, 8, 8)
#: Those that search with a flow.
SOLVERS = [name for name in solvers.names() if solvers.REGISTRY.get(name).needs in (Decodes, Density, Invertible)]
KINDS = {
    "asim2020": ASIM2020,
    "bounded": {**ASIM2020, **STABLE},
    "bounded, reversible": {**STABLE, "memory": "reversible"},
}
#: How far weights are shaken: without bounds nothing of such a flow is finite.
ROUGH = 0.5


def unlike_any(shape, dtype=torch.float32):
    """Noise, noise of black and white, black, white, and an edge as far beyond the range of images as is let in."""
    source = torch.Generator().manual_seed(0)
    noise = torch.rand(shape, generator=source)
    edge = torch.full(shape, 0.5)
    edge[:, :, shape[2] // 2 :] = 1.0 + FAR
    return torch.stack([noise, (noise > 0.5).float(), torch.zeros(shape), torch.ones(shape), edge]).to(dtype)


def solved(solver, y, flow, operator=None, **settings):
    return solvers.solve(solver, operator or small_operator("identity", flow.shape), y, flow, steps=12, **settings)


def check(found, count, *allowed):
    assert found.images.shape[0] == len(found.status) == count
    assert torch.isfinite(found.images).all()
    assert float(found.images.min()) >= 0 and float(found.images.max()) <= 1
    assert set(found.status) <= set(allowed)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_unlike_any_end_with_an_image_each(solver, kind):
    flow = small_flow("glow", SHAPE, torch.float32, **KINDS[kind])
    y = unlike_any(SHAPE)
    for operator in (None, small_operator("box_blur", SHAPE), small_operator("center_mask", SHAPE)):
        check(solved(solver, y, flow, operator), 5, "ok")


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_one_image_is_solved_as_in_a_batch(solver, optimiser):
    flow = small_flow("glow", SHAPE, torch.float32, **KINDS["bounded"])
    extra = {"smoothing": 0.01} if solver == "chavez" else {}
    y = unlike_any(SHAPE)
    keys = list("abcde")
    together = solved(solver, y, flow, optimiser=optimiser, keys=keys, **extra)
    check(together, 5, "ok")
    for number in range(5):
        alone = solved(solver, y[[number]], flow, optimiser=optimiser, keys=[keys[number]], **extra)
        check(alone, 1, "ok")
        torch.testing.assert_close(alone.images[0], together.images[number], rtol=0, atol=0.02)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("memory", ["plain", "reversible"])
def test_rough_weights_are_borne_with_bounds(solver, memory):
    flow = small_flow("glow", SHAPE, torch.float32, ROUGH, **{**KINDS["bounded"], "memory": memory})
    check(solved(solver, unlike_any(SHAPE), flow), 5, "ok")


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "map"])
def test_without_bounds_rough_weights_are_found_out(solver):
    flow = small_flow("glow", SHAPE, torch.float32, ROUGH, **ASIM2020)
    check(solved(solver, unlike_any(SHAPE), flow), 5, "diverged")


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "map"])
@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
@pytest.mark.parametrize("settings", [{}, ASIM2020], ids=["default", "asim2020"])
def test_where_nothing_is_finite_images_are_black_and_diverged(solver, optimiser, settings):
    # `map` says of such a flow that none of its samples are finite.
    flow = small_flow("glow", SHAPE, torch.float32, **settings)
    with torch.no_grad():
        norm = [module for module in flow.levels[0].parts if isinstance(module, ActNorm)][-1]
        norm.log_scale.fill_(-120.0)
        norm.shift.fill_(3.0e38)
    extra = {"smoothing": 0.01} if solver == "chavez" else {}
    found = solved(solver, unlike_any(SHAPE), flow, optimiser=optimiser, **extra)
    check(found, 5, "diverged")
    assert not found.images.any() and not found.converged.any()
    check(solved(solver, unlike_any(SHAPE)[:1], flow, optimiser=optimiser, **extra), 1, "diverged")


@pytest.mark.parametrize("solver", SOLVERS)
def test_at_128_pixels_with_six_levels(solver):
    settings = {**ASIM2020, **STABLE, "levels": 6, "hidden": 4, "clip": 20.0}
    flow = small_flow("glow", (3, 128, 128), torch.float32, 0.02, **settings)
    extra = {"samples": 64} if solver == "map" else {}
    check(solved(solver, unlike_any((3, 128, 128))[:3], flow, **extra), 3, "ok")


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("picture", range(5))
def test_one_image_can_be_learned_from(levels, kind, picture):
    torch.manual_seed(0)
    flow = flows.build("glow", SHAPE, **{**SMALL_FLOWS["glow"], **KINDS[kind], "levels": levels})
    x = unlike_any(SHAPE)[[picture]]
    flow.initialise(x)
    optimiser = torch.optim.Adam(flow.parameters(), 1e-4)
    for _ in range(5):
        optimiser.zero_grad()
        loss = -flow.log_prob(x).mean()
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(weight.grad).all() for weight in flow.parameters() if weight.grad is not None)
        optimiser.step()
    assert torch.isfinite(flow.sample(4, 0.7, torch.Generator().manual_seed(1))).all()
