"""Flows with a layer of one's own: what the folding does not know runs as it is, in a search and in training."""

import threading

import pytest
import torch
from kernel_checks import check_both_directions, check_gradients_by_weights
from pieces import FLOW_SHAPE as SHAPE
from pieces import small_flow, small_operator
from torch import nn

from flowprior import solvers
from flowprior.models.flows.base import Flow
from flowprior.models.flows.evaluators import (
    FoldedFlow,
    KernelFlow,
    KernelLikelihood,
    NotFoldableError,
    compiled,
    folded,
)
from flowprior.models.flows.haar_glow import HaarGlow
from flowprior.models.flows.layers import (
    ActNorm,
    Bijection,
    Chain,
    Coupling,
    HaarSqueeze,
    Mixing,
    Squeeze,
    additive,
    tanh_affine,
)
from flowprior.models.flows.learning import ByTorch, likelihood_of
from flowprior.training.settings import TrainingSettings

needs_compiler = pytest.mark.skipif(compiled.kernel() is None, reason="no C compiler on this machine")
HALF, CHANNELS = 6, 12


class Doubling(Bijection):
    """A layer of one's own."""

    def forward(self, x):
        return 2 * x, x.new_full((len(x),), x[0].numel() * 0.6931471805599453)

    def inverse(self, z):
        return z / 2, z.new_full((len(z),), -z[0].numel() * 0.6931471805599453)


class Locked(Doubling):
    """One that can not be copied."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def doubled(kind):
    """A class derived from a known layer, that does something else."""

    class Derived(kind):
        def forward(self, x):
            z, log_det = super().forward(x)
            two, more = Doubling()(z)
            return two, log_det + more

        def inverse(self, z):
            half, less = Doubling().inverse(z)
            x, log_det = super().inverse(half)
            return x, log_det + less

    return Derived


class Unhashable:
    """A rule of one's own, and no key of a dictionary."""

    __hash__ = None

    def __call__(self, raw):
        log_scale, shift = raw.chunk(2, dim=1)
        return log_scale.tanh(), shift


class Halving(nn.Conv2d):
    """A convolution of one's own."""

    def forward(self, x):
        return super().forward(x) / 2


def conv(outputs=CHANNELS, kind=nn.Conv2d, **settings):
    return kind(HALF, outputs, 3, **{"padding": 1, **settings})


def coupling(*network, rule=tanh_affine, kind=Coupling):
    return kind(nn.Sequential(*network), rule)


def hooked(module):
    module.register_forward_hook(lambda module, given, result: result / 2)
    return module


def patched(layer):
    forward = layer.forward
    layer.forward = lambda x: Doubling()(forward(x)[0])
    return layer


#: what is odd about it -> a layer for 12 channels at 4x4
ODD = {
    "unknown": Doubling,
    "not to be copied": Locked,
    "derived actnorm": lambda: doubled(ActNorm)(CHANNELS),
    "derived mixing": lambda: doubled(Mixing)(CHANNELS),
    "derived coupling": lambda: coupling(conv(), kind=doubled(Coupling)),
    "derived chain": lambda: doubled(Chain)([ActNorm(CHANNELS)]),
    "derived convolution": lambda: coupling(conv(kind=Halving)),
    "rule": lambda: coupling(conv(), rule=Unhashable()),
    "network": lambda: coupling(conv(HALF), nn.Tanh(), conv()),
    "circular": lambda: coupling(conv(padding_mode="circular")),
    "dilated": lambda: coupling(conv(padding=2, dilation=2)),
    "grouped": lambda: coupling(conv(groups=2)),
    "without bias": lambda: coupling(conv(bias=False)),
    "weight norm": lambda: coupling(nn.utils.parametrizations.weight_norm(conv())),
    "hook on a convolution": lambda: coupling(hooked(conv())),
    "patched": lambda: patched(ActNorm(CHANNELS)),
    "norm of one channel": lambda: ActNorm(1),
    "shift for all channels": lambda: coupling(conv(1), rule=additive),
}


def flow_with(layer):
    flow = small_flow("haar_glow", dtype=torch.float32)
    flow.levels[0].parts.append(layer)
    return flow


@pytest.mark.parametrize("odd", ODD)
def test_a_flow_with_an_odd_layer_runs_as_it_is(odd):
    flow = flow_with(ODD[odd]())
    for make in (KernelFlow, KernelLikelihood, lambda flow: FoldedFlow(flow, torch.float32)):
        with pytest.raises(NotFoldableError):
            make(flow)
    y = torch.rand(2, *SHAPE)
    found = solvers.solve("map", small_operator("identity", SHAPE), y, flow, steps=3)
    assert found.status == ("ok", "ok")
    # Training asks the flow itself.
    x = torch.rand(4, *SHAPE)
    likelihood = likelihood_of(flow, TrainingSettings())
    assert isinstance(likelihood, ByTorch)
    loss, gradients = likelihood.gradients([x], 0.25, lambda function, parts: [function(part) for part in parts])
    exact = -flow.log_prob(x).mean()
    torch.testing.assert_close(loss, exact.detach())
    for gradient, wanted in zip(gradients, torch.autograd.grad(exact, list(flow.parameters())), strict=True):
        torch.testing.assert_close(gradient, wanted)


def own_way(name):
    """A flow class with a way of its own."""

    class Own(HaarGlow):
        pass

    setattr(Own, name, lambda self, *given, **more: getattr(HaarGlow, name)(self, *given, **more))
    return Own


@pytest.mark.parametrize("name", ["forward", "inverse", "log_prob", "sample"])
def test_a_flow_with_a_way_of_its_own_is_not_folded(name):
    flow = small_flow("haar_glow")
    flow.__class__ = own_way(name)
    with pytest.raises(NotFoldableError, match="Own itself"):
        folded(flow)


def test_a_flow_without_weights_is_solved_with():
    flow = Flow(SHAPE, None, [Chain([HaarSqueeze()])], [])
    flow.name = "bare"
    with pytest.raises(NotFoldableError):
        KernelFlow(flow)
    found = solvers.solve("map", small_operator("identity", SHAPE), torch.rand(2, *SHAPE), flow, steps=3)
    assert found.status == ("ok", "ok")


@needs_compiler
def test_a_flow_of_two_kinds_of_numbers_is_not_read_by_the_kernel():
    flow = small_flow("haar_glow", dtype=torch.float32)
    flow.levels[-1].double()
    with pytest.raises(NotFoldableError, match="float64"):
        KernelFlow(flow)


@needs_compiler
def test_layers_that_share_weights_have_the_gradients_of_all():
    torch.manual_seed(0)
    relu = nn.ReLU()
    network = nn.Sequential(nn.Conv2d(HALF, 7, 3, padding=1), relu, nn.Conv2d(7, 7, 1), relu, nn.Conv2d(7, CHANNELS, 1))
    mixing, norm = Mixing(CHANNELS), ActNorm(CHANNELS)
    parts = [Squeeze(), norm, mixing, Coupling(network, tanh_affine), norm, Coupling(network, tanh_affine, swap=True)]
    flow = Flow(SHAPE, None, [Chain([*parts, mixing])], [])
    flow.name = "shared"
    check_both_directions(flow)
    check_gradients_by_weights(flow)


@needs_compiler
def test_a_weight_that_no_layer_uses_has_no_part_in_the_gradient():
    flow = small_flow("haar_glow", dtype=torch.float32)
    flow.register_parameter("spare", nn.Parameter(torch.ones(3)))
    likelihood = KernelLikelihood(flow)
    likelihood.refresh()
    gradients = likelihood.gradients([likelihood.share(torch.rand(3, *SHAPE))])
    (number,) = (i for i, (name, _) in enumerate(flow.named_parameters()) if name == "spare")
    assert torch.equal(gradients[number], torch.zeros(3))


@needs_compiler
def test_a_matrix_without_an_inverse_stops_only_what_needs_it():
    flow = small_flow("haar_glow", dtype=torch.float32)
    mixing = next(part for part in flow.levels[0].parts if isinstance(part, Mixing))
    with torch.no_grad():
        mixing.weight.zero_()
    for fast in (KernelFlow(flow), FoldedFlow(flow, torch.float32)):
        assert fast.log_prob(torch.rand(2, *SHAPE)).tolist() == [-torch.inf, -torch.inf]
        assert not torch.isfinite(fast.inverse(torch.randn(2, flow.dimensions))[0]).any()
