"""Folded steps run by torch against the flows themselves: both directions, gradients, half precision."""

import pytest
import torch
from pieces import FLOW_KINDS, small_flow
from pieces import FLOW_SHAPE as SHAPE
from pieces import TORCH_CASES as CASES

from flowprior.models.flows.evaluators import FoldedFlow


def evaluated(function, start, weights):
    """Values, log-determinants, and the gradient of a weighted sum of both."""
    variable = start.clone().requires_grad_(True)
    values, log_det = function(variable)
    objective = (values.flatten(1) * weights[:, 1:]).sum() + (log_det * weights[:, 0]).sum()
    return values.detach(), log_det.detach(), torch.autograd.grad(objective, variable)[0]


@pytest.mark.parametrize(("name", "shape", "settings"), CASES)
def test_in_float64_both_directions_and_their_gradients_are_the_flows(name, shape, settings):
    flow = small_flow(name, shape, torch.float64, **settings)
    unrolled = FoldedFlow(flow, torch.float64)
    x = torch.rand(5, *shape, dtype=torch.float64)
    z = flow(x)[0].detach()
    weights = torch.randn(5, 1 + flow.dimensions, dtype=torch.float64)
    for start, exact, found in ((x, flow, unrolled), (z, flow.inverse, unrolled.inverse)):
        for ours, wanted in zip(evaluated(found, start, weights), evaluated(exact, start, weights), strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(unrolled.log_prob(x), flow.log_prob(x).detach())
    assert not unrolled.log_prob(x).requires_grad  # weights stand still
    source = torch.Generator()
    samples = [prior.sample(3, 0.7, source.manual_seed(3)) for prior in (unrolled, flow)]
    torch.testing.assert_close(*samples)


@pytest.mark.parametrize("kind", FLOW_KINDS)
def test_with_networks_in_half_precision_it_is_still_a_bijection_in_float32(kind):
    name, settings = FLOW_KINDS[kind]
    flow = small_flow(name, dtype=torch.float32, **settings)
    unrolled = FoldedFlow(flow, torch.bfloat16)
    x = torch.rand(5, *SHAPE)
    z, log_det = unrolled(x)
    assert z.dtype == log_det.dtype == torch.float32
    # Both directions ask the same networks of the same halves: what they round away, they round away alike.
    back, log_det_back = unrolled.inverse(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-3)
    exact, exact_log_det = flow(x)
    assert not torch.equal(z, exact)
    torch.testing.assert_close(z, exact, rtol=0, atol=0.02 * float(exact.detach().abs().max()))
    torch.testing.assert_close(log_det, exact_log_det, rtol=0, atol=1e-3 * flow.dimensions)


def test_later_changes_of_the_weights_do_not_reach_it():
    flow = small_flow("haar_glow")
    unrolled, x = FoldedFlow(flow, torch.float64), torch.rand(2, *SHAPE, dtype=torch.float64)
    before = unrolled.log_prob(x)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(1.5)
    assert torch.equal(unrolled.log_prob(x), before)
    assert not torch.allclose(flow.log_prob(x), before)
