"""One way to ask a model whose weights stand still: it gives the model's own numbers, and forgets with the weights."""

import copy
import pickle

import pytest
import torch
from pieces import small_flow, small_model

from flowprior.models import flows
from flowprior.models.evaluator import Decoded, evaluator, runs_by_kernel
from flowprior.models.flows.evaluators import FoldedFlow, KernelFlow

SHAPE = (3, 8, 8)


def flow_of(name):
    return small_flow(name, SHAPE, torch.float32)


def images(count=3):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("name", flows.names())
def test_it_gives_the_flows_own_numbers(name, kernel):
    flow, x = flow_of(name), images()
    with evaluator(flow, kernel=kernel) as asked:
        torch.testing.assert_close(asked.log_prob(x), flow.log_prob(x), rtol=1e-4, atol=1e-2)
        z, log_det = asked.forward(x)
        torch.testing.assert_close(asked.inverse(z)[0], x, rtol=0, atol=1e-4)
        torch.testing.assert_close(log_det, flow.forward(x)[1], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("kernel", [True, False])
def test_it_is_derived_once_and_again_when_weights_change(kernel):
    flow, x = flow_of("haar_glow"), images()
    with evaluator(flow, kernel=kernel) as first, evaluator(flow, kernel=kernel) as second:
        assert first is second
    for change in (lambda p: p.mul_(1.3), lambda p: p.data.mul_(1.1)):
        with torch.no_grad():
            for parameter in flow.parameters():
                change(parameter)
        with evaluator(flow, kernel=kernel) as asked:
            torch.testing.assert_close(asked.log_prob(x), flow.log_prob(x), rtol=1e-4, atol=1e-2)


def test_it_is_chosen_in_one_place():
    flow = flow_of("haar_glow")
    with evaluator(flow, kernel=False) as asked:
        assert isinstance(asked, FoldedFlow)
    with evaluator(flow) as asked:
        assert isinstance(asked, KernelFlow if runs_by_kernel(flow) else FoldedFlow)
    with evaluator(flow.double()) as asked:
        assert isinstance(asked, FoldedFlow)
    with evaluator(small_model("dcgan")) as asked:
        assert isinstance(asked, Decoded)


def test_threads_are_the_kernels_meanwhile():
    flow, before = flow_of("haar_glow"), torch.get_num_threads()
    if not runs_by_kernel(flow):
        pytest.skip("no C compiler on this machine")
    with evaluator(flow, threads=2) as asked:
        assert asked.threads == 2 and torch.get_num_threads() == 1
    with pytest.raises(ZeroDivisionError), evaluator(flow):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


def test_weights_are_as_trainable_after_as_before():
    flow = flow_of("haar_glow")
    wanted = [i % 2 == 0 for i, _ in enumerate(flow.parameters())]
    for parameter, on in zip(flow.parameters(), wanted, strict=True):
        parameter.requires_grad_(on)
    for kernel in (True, False):
        with evaluator(flow, kernel=kernel) as asked:
            x = images().requires_grad_(True)
            asked.log_prob(x).sum().backward()
            assert x.grad is not None and all(parameter.grad is None for parameter in flow.parameters())
    assert [parameter.requires_grad for parameter in flow.parameters()] == wanted


def test_copies_of_a_flow_begin_with_nothing():
    flow, x = flow_of("haar_glow"), images()
    with evaluator(flow) as asked:
        exact = asked.log_prob(x)
    for other in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        with evaluator(other) as asked:
            torch.testing.assert_close(asked.log_prob(x), exact)
    assert set(flow.state_dict()) == set(flow_of("haar_glow").state_dict())
