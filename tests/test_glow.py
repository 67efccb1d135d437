"""Glow's variants: the papers' counts, names that checkpoints have, starts, bounds."""

import pytest
import torch
from pieces import ASIM2020 as SMALL_ASIM2020
from pieces import FLOW_SHAPE as SHAPE
from pieces import SMALL_FLOWS, STABLE, small_flow, small_operator

from flowprior import solvers
from flowprior.errors import FlowpriorError
from flowprior.models import flows
from flowprior.models.flows.evaluators import FoldedFlow, KernelFlow, NotFoldableError, compiled
from flowprior.models.flows.glow import ASIM2020, OBERLIN2021
from flowprior.models.flows.layers import ActNorm, Coupling, SigmoidAffine, additive, sigmoid_affine

needs_compiler = pytest.mark.skipif(compiled.kernel() is None, reason="no C compiler on this machine")


@pytest.mark.parametrize(
    ("side", "steps", "levels", "printed"),
    [(64, 48, 4, 67_159_936 + 12_288), (64, 18, 4, 25_771_456 + 12_288), (128, 32, 6, 129_402_368 + 49_152)],
)
def test_asim_has_the_papers_size(side, steps, levels, printed):
    with torch.device("meta"):
        flow = flows.build("glow", (3, side, side), steps=steps, levels=levels, **ASIM2020)
    # They print parameters and the latent together.
    assert sum(parameter.numel() for parameter in flow.parameters()) + flow.dimensions == printed
    couplings = [module for module in flow.modules() if isinstance(module, Coupling)]
    assert len(couplings) == (levels - 1) * steps + 1
    assert couplings[-1].scale_shift == SigmoidAffine(1.0)
    assert all(coupling.scale_shift is sigmoid_affine for coupling in couplings[:-1])


def test_oberlin_has_the_papers_size_but_for_what_it_stores_otherwise():
    with torch.device("meta"):
        flow = flows.build("glow", (3, 64, 64), **OBERLIN2021)
    ours = sum(parameter.numel() for parameter in flow.parameters())
    channels, steps = (12, 24, 48, 96), OBERLIN2021["steps"]
    # They store L and U of each 1x1 convolution as two full matrices, and the logarithm of U's diagonal.
    by_lu = steps * sum(2 * c * c + c for c in channels)
    by_one_matrix = steps * sum(c * c for c in channels)
    assert ours - by_one_matrix + by_lu == 61_033_984
    # A split's prior: a 3x3 convolution from what is kept to mean and log-scale of the rest, with bias and gain; the
    # last level's looks at zeros as many as its latents.
    kept = [c // 2 for c in channels[:-1]] + [channels[-1]]
    assert sum(9 * c * 2 * c + 2 * (2 * c) for c in kept) == 180_048


def test_oberlin_starts_as_released():
    torch.manual_seed(0)
    flow = flows.build("glow", (3, 16, 16), **{**OBERLIN2021, "steps": 2, "levels": 2, "hidden": 200})
    couplings = [module for module in flow.modules() if isinstance(module, Coupling)]
    assert len(couplings) == 4 and all(coupling.scale_shift is additive for coupling in couplings)
    for network in (coupling.network for coupling in couplings):
        for number in (0, 2):
            assert network[number].weight.std().item() == pytest.approx(0.05, rel=0.05)
            assert not network[number].bias.any()
        assert not network[4].convolution.weight.any() and not network[4].log_gain.any()
    # The first half drives the second.
    h = torch.randn(2, 12, 4, 4)
    assert torch.equal(couplings[0](h)[0][:, :6], h[:, :6])


def test_asim_starts_as_released():
    torch.manual_seed(0)
    flow = flows.build("glow", (3, 16, 16), steps=2, levels=2, **{**ASIM2020, "hidden": 200})
    *others, last = [module.network for module in flow.modules() if isinstance(module, Coupling)]
    for network in (*others, last):
        for number in (0, 2):
            assert network[number].convolution.weight.std().item() == pytest.approx(0.01, rel=0.05)
            assert not network[number].convolution.bias.any()
        assert not network[4].convolution.bias.any()
    assert not any(network[4].convolution.weight.any() for network in others)
    assert last[4].convolution.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_hidden_norms_start_from_the_data():
    flow = flows.build("glow", SHAPE, **{**SMALL_FLOWS["glow"], **SMALL_ASIM2020}).double()
    norms = [module for module in flow.modules() if isinstance(module, ActNorm)]
    inside = [module.norm for module in flow.modules() if hasattr(module, "norm")]
    assert len(norms) == 3 * len(inside) // 2 == 9
    flow.initialise(torch.rand(32, *SHAPE, dtype=torch.float64))
    for norm in inside:
        assert bool((norm.log_scale != 0).any()) and bool((norm.shift != 0).any())


def test_parameters_of_the_default_settings_are_those_of_older_checkpoints():
    torch.manual_seed(0)
    flow = flows.build("glow", (3, 16, 16), levels=2, steps=1, hidden=4)
    step = [
        ("1.shift", (1, 12, 1, 1)),
        ("1.log_scale", (1, 12, 1, 1)),
        ("2.weight", (12, 12)),
        ("3.network.0.weight", (4, 6, 3, 3)),
        ("3.network.0.bias", (4,)),
        ("3.network.2.weight", (4, 4, 1, 1)),
        ("3.network.2.bias", (4,)),
        ("3.network.4.log_gain", (1, 12, 1, 1)),
        ("3.network.4.convolution.weight", (12, 4, 3, 3)),
        ("3.network.4.convolution.bias", (12,)),
    ]
    found = {name: tuple(parameter.shape) for name, parameter in flow.named_parameters()}
    assert dict(list(found.items())[:10]) == {f"levels.0.parts.{name}": shape for name, shape in step}
    assert len(found) == 20
    assert flows.build("glow", (3, 64, 64)).settings.model_dump(exclude_defaults=True) == {}


@pytest.mark.parametrize("setting", ["coupling_bias", "last_level_bias", "scale_clip"])
def test_a_scale_that_is_not_there_has_no_bounds(setting):
    with pytest.raises(FlowpriorError, match="flow 'glow': coupling: additive has no scale; leave out"):
        flows.build("glow", SHAPE, coupling="additive", levels=2, **{setting: 0.5})


@needs_compiler
def test_what_ends_a_relu_is_not_for_the_kernel():
    flow = small_flow("glow", dtype=torch.float32, clip=1.0)
    with pytest.raises(NotFoldableError, match="a ReLU that ends at 1"):
        KernelFlow(flow)
    FoldedFlow(flow, torch.float32)
    found = solvers.solve("map", small_operator("identity", SHAPE), torch.rand(2, *SHAPE), flow, steps=3)
    assert found.status == ("ok", "ok")
    flow.initialise(torch.rand(8, *SHAPE))


def test_bounds_hold_far_from_the_data():
    flow = small_flow("glow", **STABLE)
    couplings = [module for module in flow.modules() if isinstance(module, Coupling)]
    far = 1e6 * torch.randn(2, 6, 4, 4, dtype=torch.float64)
    log_scale, shift = couplings[0].scale_shift(couplings[0].network(far))
    low, high = (torch.sigmoid(torch.tensor(2.0 + s, dtype=torch.float64)) + 0.1 for s in (-0.4, 0.4))
    assert bool((log_scale.exp() >= low - 1e-9).all()) and bool((log_scale.exp() <= high + 1e-9).all())
    assert bool((shift.abs() < 100).all())
    norm = ActNorm(2, 0.05)
    with torch.no_grad():
        norm.log_scale.fill_(-200.0)
    assert norm.inverse(torch.ones(1, 2, 1, 1))[0].max().item() == pytest.approx(20)


def test_one_image_on_one_pixel_says_nothing_of_a_spread():
    for epsilon in (0.0, 0.25):
        norm = ActNorm(3, epsilon)
        norm.set_from(torch.tensor([4.0, 5.0, -6.0])[None, :, None, None])
        torch.testing.assert_close(norm.log_scales, torch.zeros(1, 3, 1, 1))
        assert norm.shift.flatten().tolist() == [-4, -5, 6]
