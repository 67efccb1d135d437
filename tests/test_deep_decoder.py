"""The Deep Decoder: its sizes, its norms, its own weights for each image, and what it takes of memory."""

import pytest
import torch
from torch.nn.functional import interpolate

from flowprior import operators, solvers
from flowprior.models.networks.deep_decoder import DeepDecoder
from flowprior.solvers.sizing import rows_at_once


@pytest.mark.parametrize(
    ("side", "width", "weights", "layers"),
    [(64, 250, 253_753, 4), (128, 700, 2_462_603, 5)],
)
def test_sizes_of_asim_2020(side, width, weights, layers):
    network = DeepDecoder((3, side, side), width)
    assert network.parameters == weights and len(network.sides) == layers + 1
    assert network.sides[0] == (4, 4) and network.sides[-1] == (side, side)


def test_the_printed_sizes_add_an_input():
    network = DeepDecoder((3, 128, 128), 700)
    inputs, _ = network.start([("a",)])
    assert network.parameters + inputs[0].numel() == 2_473_803
    assert DeepDecoder((3, 64, 64), 250).parameters + 1_000 == 254_753


def small(shape=(3, 16, 12), count=3):
    network = DeepDecoder(shape, 5, 2)
    inputs, weights = network.start([(name,) for name in "abc"[:count]])
    return network, inputs.double(), (weights + 0.1 * torch.randn_like(weights)).double()


def test_it_is_the_layers_of_its_description():
    """One image by torch's own layers."""
    network, inputs, weights = small()
    k, parts = network.width, weights[1].split(network._sizes)
    h = inputs[1:2]
    for layer, sides in enumerate(network.sides[1:]):
        matrix, bias, scale, shift = parts[4 * layer : 4 * layer + 4]
        h = torch.nn.functional.conv2d(h, matrix.reshape(k, k, 1, 1), bias)
        h = interpolate(h, size=sides, mode="bilinear", align_corners=False).relu()
        h = torch.nn.functional.instance_norm(h, weight=scale, bias=shift)
    wanted = torch.nn.functional.conv2d(h, parts[-2].reshape(3, k, 1, 1), parts[-1]).sigmoid()
    torch.testing.assert_close(network.images(weights, inputs)[1:2], wanted)


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 8, 8), (1, 5, 7), (3, 2, 2), (3, 20, 36)])
def test_images_of_any_size(shape):
    network = DeepDecoder(shape, 4)
    inputs, weights = network.start([("a",), ("b",)])
    images = network.images(weights, inputs)
    assert images.shape == (2, *shape) and 0 < images.min() <= images.max() < 1


def test_a_start_follows_from_its_identity():
    network = DeepDecoder((3, 8, 8), 4)
    inputs, weights = network.start([("a",), ("b",)])
    again = network.start([("b",)])
    assert torch.equal(again[0][0], inputs[1]) and torch.equal(again[1][0], weights[1])
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(inputs[0], inputs[1])


def test_a_bias_that_the_norm_takes_away_stands_still():
    """Its gradient is zero but for rounding, whose sign Adam would follow at its full rate."""
    network = DeepDecoder((3, 8, 8), 6)
    inputs, weights = network.start([("a",)])
    matrix, bias = weights.split(network._sizes, 1)[:2]
    matrix.abs_()
    bias.fill_(1.0)
    weights.requires_grad_(True)
    (gradient,) = torch.autograd.grad(network.images(weights, inputs).square().sum(), weights)
    assert not gradient.split(network._sizes, 1)[1].any()
    assert gradient.split(network._sizes, 1)[0].all() and gradient[:, -3:].all()


def wave(side=32):
    """A picture with edges and a smooth shade."""
    across = torch.linspace(0, 6, side)
    shade = 0.5 + 0.25 * torch.sin(across[:, None] + 0.5 * across[None, :])
    picture = torch.stack([shade, shade.flip(0), 0.5 + 0 * shade])
    picture[:, side // 4 : side // 2, side // 3 : side // 2] = torch.tensor([0.9, 0.2, 0.1])[:, None, None]
    return picture[None]


def test_it_fills_a_hole_and_removes_noise():
    x = wave()
    for name, noise in (("center_mask", 0.0), ("identity", 0.1)):
        operator = operators.build(name, tuple(x.shape[1:]))
        y = operator.measure(x, noise, torch.Generator().manual_seed(1))
        found = solvers.solve("deep_decoder", operator, y, width=32, steps=300)
        before = (operator.A_dagger(y) - x).square().mean()
        assert found.status == ("ok",) and (found.images - x).square().mean() < 0.5 * before


def test_more_weights_take_fewer_rows():
    of = {
        width: solvers.REGISTRY.get("deep_decoder")(
            solvers.REGISTRY.settings("deep_decoder", {"width": width})
        ).own_values((3, 64, 64), None)
        for width in (32, 250)
    }
    assert 1 <= rows_at_once(None, own=of[250]) < rows_at_once(None, own=of[32])
    assert rows_at_once(None) == 64
