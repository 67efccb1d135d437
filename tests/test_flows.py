"""Bijections and flows: round trip, log-determinant, density, shapes, the papers' counts."""

import math

import pytest
import torch
from pieces import FLOW_KINDS, LAYERS, SMALL_FLOWS, shaken, small_flow
from torch.autograd.functional import jacobian

from flowprior.errors import FlowpriorError, UnknownNameError
from flowprior.models import flows
from flowprior.models.flows.base import bits_per_dim
from flowprior.models.flows.layers import ActNorm, Coupling

SHAPE = (3, 8, 8)


@pytest.fixture(params=sorted(LAYERS))
def layer(request):
    return shaken(LAYERS[request.param]().double())


@pytest.fixture(params=FLOW_KINDS)
def kind(request):
    return FLOW_KINDS[request.param]


@pytest.fixture
def flow(kind):
    name, settings = kind
    return small_flow(name, SHAPE, **settings)


def log_abs_det(function, x):
    matrix = jacobian(lambda flat: function(flat.reshape(1, *x.shape[1:]))[0].flatten(), x.flatten())
    return torch.linalg.slogdet(matrix)[1]


def test_layer_round_trip(layer):
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    z, forward = layer(x)
    back, inverse = layer.inverse(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(forward, -inverse, rtol=0, atol=1e-10)


def test_layer_log_det_is_that_of_the_jacobian(layer):
    x = torch.randn(1, 4, 4, 4, dtype=torch.float64)
    z, log_det = layer(x)
    torch.testing.assert_close(log_det[0], log_abs_det(layer, x), rtol=0, atol=1e-8)
    torch.testing.assert_close(layer.inverse(z)[1][0], log_abs_det(layer.inverse, z), rtol=0, atol=1e-8)


def test_flow_round_trip(flow):
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    z, forward = flow(x)
    assert z.shape == (3, math.prod(SHAPE))
    back, inverse = flow.inverse(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(forward, -inverse, rtol=0, atol=1e-9)


def test_flow_log_det_is_that_of_the_jacobian(flow):
    x = torch.rand(1, *SHAPE, dtype=torch.float64)
    z, log_det = flow(x)
    torch.testing.assert_close(log_det[0], log_abs_det(flow, x), rtol=0, atol=1e-7)
    matrix = jacobian(lambda flat: flow.inverse(flat[None])[0].flatten(), z[0])
    torch.testing.assert_close(flow.inverse(z)[1][0], torch.linalg.slogdet(matrix)[1], rtol=0, atol=1e-7)


def test_log_prob_is_the_change_of_variables(flow):
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    z, log_det = flow(x)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(flow.log_prob(x), normal + log_det)


def test_images_of_a_batch_do_not_meet(flow):
    x = torch.rand(4, *SHAPE, dtype=torch.float64)
    together = flow.log_prob(x)
    alone = torch.cat([flow.log_prob(x[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)


def test_sample_at_temperature_zero_is_the_image_of_the_zero_latent(flow):
    zero = flow.inverse(torch.zeros(1, flow.dimensions, dtype=torch.float64))[0]
    torch.testing.assert_close(flow.sample(2, temperature=0.0), zero.expand(2, -1, -1, -1))


def test_samples_follow_the_generator(flow):
    first, second, other = (flow.sample(2, 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_initialise_normalises_every_actnorm(kind):
    name, settings = kind
    fresh = flows.build(name, SHAPE, **{**SMALL_FLOWS.get(name, {}), **settings}).double()
    seen = []
    hooks = [
        module.register_forward_hook(lambda layer, args, out: seen.append(out[0].clone()))
        for module in fresh.modules()
        if isinstance(module, ActNorm)
    ]
    x = torch.rand(64, *SHAPE, dtype=torch.float64)
    fresh.initialise(x)
    seen.clear()
    fresh(x)
    for hook in hooks:
        hook.remove()
    assert seen
    for values in seen:
        torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(values.shape[1], dtype=torch.float64))
        assert bool((values.std((0, 2, 3)) < 1.01).all())


def test_other_image_shape_is_refused(flow):
    with pytest.raises(FlowpriorError, match=r"built for images of shape \(3, 8, 8\), got \(3, 16, 16\)"):
        flow(torch.rand(1, 3, 16, 16, dtype=torch.float64))


@pytest.mark.parametrize("name", flows.names())
def test_size_that_does_not_divide_is_refused(name):
    with pytest.raises(FlowpriorError, match="got 20x20"):
        flows.build(name, (3, 20, 20), **({} if name == "chavez" else {"levels": 3}))


def test_chavez_has_the_papers_size():
    flow = flows.build("chavez", (3, 32, 32), hidden=512)
    assert sum(isinstance(module, Coupling) for module in flow.modules()) == 14
    assert sum(parameter.numel() for parameter in flow.parameters()) == 32_736_864
    assert [size for size in flow.latent_sizes if size] == [96 * 4 * 4, 192 * 2 * 2, 768]


def test_bits_per_dim_of_the_uniform_density():
    assert bits_per_dim(torch.zeros(1), dimensions=7, bits=5).item() == 5.0


def test_unknown_flow_names_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown flow 'haarglow'; did you mean 'haar_glow'"):
        flows.build("haarglow", SHAPE)


def test_misspelt_setting_names_the_nearest():
    with pytest.raises(FlowpriorError, match="unknown setting 'hiden'; did you mean 'hidden'"):
        flows.build("glow", SHAPE, hiden=3)


def test_additive_glow_keeps_volume_in_its_couplings():
    flow = small_flow("glow", coupling="additive")
    couplings = [module for module in flow.modules() if isinstance(module, Coupling)]
    x = torch.randn(2, 12, 4, 4, dtype=torch.float64)
    assert torch.equal(couplings[0](x)[1], torch.zeros(2, dtype=torch.float64))
