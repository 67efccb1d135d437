"""Derivatives of derivatives: the flow's own, or refused; never with a part missing."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from pieces import FLOW_SHAPE as SHAPE
from pieces import small_flow
from test_graph_flows import reused

import flowprior
from flowprior.errors import FlowpriorError
from flowprior.models import flows
from flowprior.models.flows.evaluators import FoldedFlow, GraphFlow, KernelFlow, KernelLikelihood, compiled
from flowprior.models.flows.evaluators.by_graphs import OFTEN, owned

needs_compiler = pytest.mark.skipif(compiled.kernel() is None, reason="no C compiler on this machine")


def launched_by_graphs(flow):
    """A flow with recordings as CUDA makes them: their results lie where the next launch writes."""
    return GraphFlow(FoldedFlow(flow, torch.float64), lambda plain, rows: owned(reused(plain, rows)))


#: evaluator -> from a flow in float64 to it, and whether it has second derivatives.
EVALUATORS = {
    "kernel": (lambda flow: KernelFlow(flow.float()), False),
    "steps": (lambda flow: FoldedFlow(flow, torch.float64), True),
    "steps, not yet recorded": (launched_by_graphs, True),
    "recorded steps": (launched_by_graphs, False),
}
#: A direction and what of its two ends is differentiated. Of a log-determinant alone the gradient that comes in is
#: constant.
OBJECTIVES = {
    "log p": ("image", lambda flow, x: flow.log_prob(x).sum()),
    "latents": ("image", lambda flow, x: flow.forward(x)[0].sum()),
    "log-determinant": ("image", lambda flow, x: flow.forward(x)[1].sum()),
    "images": ("latent", lambda flow, z: flow.inverse(z)[0].square().sum()),
    "log-determinant back": ("latent", lambda flow, z: flow.inverse(z)[1].sum()),
}


def product(flow, objective, start, along):
    """The Hessian of an objective times a direction, and beside it something that always has a gradient."""
    variable = start.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(flow, variable), variable, create_graph=True)
    return torch.autograd.grad((gradient * along).sum() + variable.sum(), variable)[0] - 1


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_a_second_derivative_is_the_flows_or_refused(evaluator, objective):
    if evaluator == "kernel" and compiled.kernel() is None:
        pytest.skip("no C compiler on this machine")
    make, has_second = EVALUATORS[evaluator]
    where, function = OBJECTIVES[objective]
    flow = small_flow("haar_glow")
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    start = x if where == "image" else flow(x)[0].detach()
    along = torch.randn(start.shape, dtype=torch.float64)
    wanted = product(flow, function, start, along)
    assert float(wanted.abs().max()) > 1e-3
    fast = make(flow)
    start, along = start.to(fast.reference), along.to(fast.reference)
    for _ in range(OFTEN if evaluator == "recorded steps" else 0):
        function(fast, start.clone().requires_grad_(True))
    if has_second:
        torch.testing.assert_close(product(fast, function, start, along), wanted)
        return
    with pytest.raises(FlowpriorError, match="has no second derivative; ask the flow itself"):
        product(fast, function, start, along)
    # The first one is there, with a graph or without.
    ends = []
    for create_graph in (False, True):
        variable = start.clone().requires_grad_(True)
        ends.append(torch.autograd.grad(function(fast, variable), variable, create_graph=create_graph)[0])
    assert torch.equal(*ends)


@needs_compiler
def test_other_ways_to_second_derivatives_are_refused_too():
    fixed = KernelFlow(small_flow("haar_glow", dtype=torch.float32))
    x = torch.rand(1, *SHAPE)

    def log_prob(images):
        return fixed.log_prob(images).sum()

    for ask in (
        lambda: torch.autograd.functional.hessian(log_prob, x),
        lambda: torch.autograd.functional.vhp(log_prob, x, x),
        lambda: torch.func.hessian(log_prob)(x),
        lambda: torch.func.jvp(log_prob, (x,), (x,)),
    ):
        with pytest.raises(RuntimeError):
            ask()


@needs_compiler
def test_gradients_by_images_are_not_left_out_of_a_share():
    likelihood = KernelLikelihood(small_flow("haar_glow", dtype=torch.float32))
    likelihood.refresh()
    with pytest.raises(ValueError, match=r"ask flow\.log_prob"):
        likelihood.share(torch.rand(2, *SHAPE, requires_grad=True))


def functions():
    """Every gradient of the package that is written by hand."""
    found = set()
    for module in pkgutil.walk_packages(flowprior.__path__, "flowprior."):
        for _, thing in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(thing, torch.autograd.Function) and thing.__module__.startswith("flowprior."):
                found.add(thing)
    return found


@pytest.mark.parametrize("function", functions(), ids=lambda function: function.__qualname__)
def test_every_gradient_written_by_hand_refuses_another(function):
    """By `once`, or because it is what refuses; a new one that can do both is to be tested beside the others."""
    source = inspect.getsource(function.backward)
    assert "once(" in source or "raise SecondDerivativeError" in source


def test_all_flows_can_be_asked_by_the_evaluators_that_have_second_derivatives():
    for name in flows.names():
        flow = small_flow(name)
        x = torch.rand(2, *SHAPE, dtype=torch.float64)
        objective = OBJECTIVES["log p"][1]
        wanted = product(flow, objective, x, x)
        torch.testing.assert_close(product(FoldedFlow(flow, torch.float64), objective, x, x), wanted)
