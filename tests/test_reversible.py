"""`memory: reversible`: the same gradients from outputs alone, and memory that does not grow with the steps."""

import pytest
import torch
from pieces import FLOW_KINDS, LAYERS, shaken, small_flow, small_operator
from pieces import FLOW_SHAPE as SHAPE
from test_unfoldable_flows import ODD, Doubling, coupling, flow_with
from torch import nn

from flowprior import solvers
from flowprior.errors import FlowpriorError
from flowprior.models import flows
from flowprior.models.evaluator import by_torch, evaluator, runs_by_kernel
from flowprior.models.flows.base import Flow
from flowprior.models.flows.evaluators import FoldedFlow
from flowprior.models.flows.layers import Chain, Squeeze, tanh_affine
from flowprior.models.flows.layers.retracing import retraced
from flowprior.models.flows.learning import ByTorch, likelihood_of
from flowprior.solvers.sizing import most_kept, rows_at_once
from flowprior.training.settings import TrainingSettings

REVERSIBLE = {"memory": "reversible"}
#: Layers that are bijections but for a rule: what is odd about them makes no difference here.
BIJECTIONS = [
    "unknown",
    "derived actnorm",
    "derived mixing",
    "derived coupling",
    "derived chain",
    "network",
    "circular",
]


def ends(function, start, weights):
    """Values, log-determinants, and the gradients of a weighted sum of both, by the start and by weights."""
    variable = start.clone().requires_grad_(True)
    values, log_det = function(variable)
    flat, source = values.flatten(1), torch.Generator().manual_seed(5)
    by_values, by_log_det = (torch.randn(t.shape, generator=source, dtype=t.dtype) for t in (flat, log_det))
    loss = (flat * by_values).sum() + (log_det * by_log_det).sum()
    return [values, log_det, *torch.autograd.grad(loss, [variable, *weights], allow_unused=True)]


def agree(found, wanted, atol=1e-9):
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=atol)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("back", [False, True])
def test_gradients_of_a_layer_are_those_of_autograd(name, back):
    layer = shaken(LAYERS[name]().double())
    weights = list(layer.parameters())
    x = torch.randn(3, 4, 4, 4, dtype=torch.float64)
    start = layer(x)[0].detach() if back else x
    found = ends(lambda values: retraced(layer, values, back, weights, "it"), start, weights)
    agree(found, ends(layer.inverse if back else layer, start, weights))


@pytest.mark.parametrize("kind", FLOW_KINDS)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("folded", [False, True])
def test_gradients_of_a_flow_are_those_of_autograd(kind, direction, folded):
    name, settings = FLOW_KINDS[kind]
    plain, reversible = small_flow(name, **settings), small_flow(name, **settings, **REVERSIBLE)
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    start = x if direction == "forward" else plain(x)[0].detach()
    ours = FoldedFlow(reversible, torch.float64) if folded else reversible
    weights = [[] if folded else list(flow.parameters()) for flow in (reversible, plain)]
    agree(ends(getattr(ours, direction), start, weights[0]), ends(getattr(plain, direction), start, weights[1]))


@pytest.mark.parametrize("odd", BIJECTIONS)
def test_layers_of_ones_own_have_their_own_gradients(odd):
    torch.manual_seed(0)
    flow = flow_with(ODD[odd]()).double()
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    z, weights = flow(x)[0].detach(), list(flow.parameters())
    wanted = [ends(flow.forward, x, weights), ends(flow.inverse, z, weights)]
    flow.reversible = True
    agree(ends(flow.forward, x, weights), wanted[0])
    agree(ends(flow.inverse, z, weights), wanted[1])


def test_layers_that_share_weights_have_the_gradients_of_all():
    torch.manual_seed(0)
    shared = nn.Conv2d(6, 12, 3, padding=1)
    levels = [Chain([Squeeze(), coupling(shared), Doubling(), coupling(shared, rule=tanh_affine)])]
    flow = Flow(SHAPE, None, levels, []).double()
    flow.name = "shared"
    x, weights = torch.rand(3, *SHAPE, dtype=torch.float64), list(flow.parameters())
    wanted = ends(flow.forward, x, weights)
    flow.reversible = True
    agree(ends(flow.forward, x, weights), wanted)


def test_a_gradient_by_weights_alone_is_there():
    plain, reversible = small_flow("glow"), small_flow("glow", **REVERSIBLE)
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    found, wanted = (torch.autograd.grad(f.log_prob(x).sum(), list(f.parameters())) for f in (reversible, plain))
    agree(found, wanted)


def test_a_gradient_of_some_weights_leaves_the_others():
    flow = small_flow("glow", **REVERSIBLE)
    first, *others = flow.parameters()
    for weight in others:
        weight.requires_grad_(False)
    flow.log_prob(torch.rand(3, *SHAPE, dtype=torch.float64)).sum().backward()
    assert first.grad is not None and all(weight.grad is None for weight in others)


def test_weights_that_have_changed_since_are_refused():
    flow = small_flow("glow", **REVERSIBLE)
    loss = flow.log_prob(torch.rand(2, *SHAPE, dtype=torch.float64)).sum()
    with torch.no_grad():
        next(flow.parameters()).mul_(2)
    with pytest.raises(RuntimeError, match="weights of flow 'glow' with memory: reversible have changed since"):
        loss.backward()


@pytest.mark.parametrize("of", ["input", "weights"])
@pytest.mark.parametrize("objective", ["values", "log-determinant"])
@pytest.mark.parametrize("folded", [False, True])
def test_a_second_derivative_is_refused(of, objective, folded):
    flow = small_flow("haar_glow", **REVERSIBLE)
    if folded and of == "weights":
        pytest.skip("its weights have no gradient")
    asked = FoldedFlow(flow, torch.float64) if folded else flow
    x = torch.rand(2, *SHAPE, dtype=torch.float64, requires_grad=True)
    # The second layer's: what the first one's gradient is does not depend on it.
    by = [x] if of == "input" else [weight for weight in flow.parameters() if weight.ndim == 4][:1]
    values, log_det = asked.forward(x)
    first = torch.autograd.grad((values.square() if objective == "values" else log_det).sum(), by, create_graph=True)[0]
    for target in [x] if folded else [x, *by]:
        with pytest.raises(FlowpriorError, match="reversible has no second derivative; set memory: plain for it"):
            torch.autograd.grad(first.sum(), target, retain_graph=True)


def test_without_a_gradient_nothing_is_kept():
    flow = small_flow("glow", **REVERSIBLE).requires_grad_(False)
    assert not flow.log_prob(torch.rand(2, *SHAPE, dtype=torch.float64)).requires_grad
    with torch.no_grad():
        fresh = flows.build("glow", SHAPE, levels=2, steps=1, hidden=4, memory="reversible")
        fresh.initialise(torch.rand(8, *SHAPE))


def bytes_of(name, steps, memory, way):
    flow = small_flow(name, (3, 16, 16), torch.float32, steps=steps, memory=memory)
    x = torch.rand(4, 3, 16, 16)
    z = torch.randn(4, flow.dimensions) * 0.1
    if way == "training":
        # With weights, which autograd holds where it differentiates them: those of one step, or of all.
        return most_kept(lambda x: (flow.log_prob(x),), x)
    flow.requires_grad_(False)
    folded = FoldedFlow(flow, torch.float32)
    return {
        "log p": lambda: most_kept(lambda x: (flow.log_prob(x),), x),
        "decode": lambda: most_kept(lambda z: (flow.decode(z),), z),
        "folded log p": lambda: most_kept(lambda x: (folded.log_prob(x),), x),
        "folded decode": lambda: most_kept(folded.inverse, z),
    }[way]()


@pytest.mark.parametrize("name", ["glow", "haar_glow", "chavez"])
@pytest.mark.parametrize("way", ["training", "log p", "decode", "folded log p", "folded decode"])
def test_memory_does_not_grow_with_the_steps(name, way):
    few, many = (bytes_of(name, steps, "reversible", way) for steps in (2, 12))
    assert many == few
    plain = [bytes_of(name, steps, "plain", way) for steps in (2, 12)]
    assert plain[1] > 3 * plain[0] and many < plain[0]


def test_who_sizes_batches_knows_of_it():
    plain, reversible = (
        small_flow("glow", (3, 16, 16), torch.float32, steps=12, hidden=32, memory=memory)
        for memory in ("plain", "reversible")
    )
    assert rows_at_once(reversible, kernel=False) > 4 * rows_at_once(plain, kernel=False)
    assert rows_at_once(reversible) == rows_at_once(reversible, kernel=False)


def test_whoever_asks_it_asks_torch():
    flow = small_flow("haar_glow", dtype=torch.float32, **REVERSIBLE)
    assert not runs_by_kernel(flow)
    assert isinstance(by_torch(flow, "float32"), FoldedFlow)
    assert isinstance(likelihood_of(flow, TrainingSettings()), ByTorch)
    with evaluator(flow) as asked:
        assert isinstance(asked, FoldedFlow)


@pytest.mark.parametrize("solver", ["map", "csgm", "chavez"])
def test_a_search_ends_where_the_plain_one_does(solver):
    y = torch.rand(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, wanted = (
        solvers.solve(solver, small_operator("identity"), y, small_flow("glow", memory=memory), steps=8)
        for memory in ("reversible", "plain")
    )
    torch.testing.assert_close(found.images, wanted.images, rtol=0, atol=1e-6)


def test_in_half_precision_gradients_are_those_of_autograd():
    ends = []
    for memory in ("plain", "reversible"):
        flow = small_flow("glow", dtype=torch.float32, memory=memory, hidden=32)
        likelihood = ByTorch(flow, TrainingSettings(precision="bf16"))
        x = torch.rand(16, *SHAPE, generator=torch.Generator().manual_seed(1))
        ends.append(likelihood.gradients([x], 1 / 16, lambda function, parts: [function(part) for part in parts])[1])
        # Within the same cast as well, where weights in half precision are kept.
        with torch.autocast("cpu", torch.bfloat16):
            inside = torch.autograd.grad(-flow.log_prob(x).mean(), list(flow.parameters()))
        for one, other in zip(inside, ends[-1], strict=True):
            torch.testing.assert_close(one, other, rtol=0.1, atol=0.05 * float(other.abs().max()) + 1e-4)
    for found, wanted in zip(*ends, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.05 * float(wanted.abs().max()) + 1e-4)


def test_one_image_that_breaks_does_not_break_the_others():
    flow = small_flow("glow", **REVERSIBLE).requires_grad_(False)
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    wanted = ends(flow.forward, x, [])[2]
    broken = x.clone()
    broken[1] = torch.inf
    found = ends(flow.forward, broken, [])[2]
    torch.testing.assert_close(found[[0, 2]], wanted[[0, 2]])
    assert not torch.isfinite(found[1]).all()
