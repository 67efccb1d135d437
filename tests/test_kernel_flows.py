"""Flows with fixed weights against the flows themselves: both directions, gradients, any batch, any threads."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from kernel_checks import check_batches, check_both_directions, check_gradients_by_weights, close
from pieces import FLOW_CASES as CASES
from pieces import FLOW_SHAPE as SHAPE
from pieces import SMALL_FLOWS, small_flow, small_operator
from torch import nn

from flowprior import solvers
from flowprior.models import flows
from flowprior.models.flows.base import Flow
from flowprior.models.flows.evaluators import KernelFlow, KernelLikelihood, NotFoldableError, compiled, folded
from flowprior.models.flows.layers import Bijection, Chain, Coupling, Squeeze, tanh_affine

needs_compiler = pytest.mark.skipif(compiled.kernel() is None, reason="no C compiler on this machine")


@needs_compiler
@pytest.mark.parametrize(("name", "shape", "settings"), CASES)
def test_both_directions_and_their_gradients_are_the_flows(name, shape, settings):
    check_both_directions(small_flow(name, shape, torch.float32, **settings))


@needs_compiler
@pytest.mark.parametrize(("name", "shape", "settings"), CASES)
def test_gradients_by_weights_are_autograds(name, shape, settings):
    check_gradients_by_weights(small_flow(name, shape, torch.float32, **settings))


@needs_compiler
def test_gradients_by_weights_are_the_same_bits_again_and_a_broken_image_is_seen():
    flow = small_flow("haar_glow", dtype=torch.float32)
    likelihood = KernelLikelihood(flow)
    likelihood.refresh()
    x = torch.rand(37, *SHAPE)
    first, second = likelihood.share(x), likelihood.share(x)
    assert torch.equal(first.by_constants, second.by_constants)
    x[3] = torch.nan
    assert not torch.isfinite(likelihood.share(x).neg_log_prob)


@needs_compiler
@pytest.mark.parametrize("name", flows.names())
def test_an_image_alone_is_the_image_among_others_to_the_bit(name):
    check_batches(small_flow(name, dtype=torch.float32))


@needs_compiler
def test_threads_that_share_weights_find_what_one_finds_to_the_bit():
    flow = small_flow("chavez", dtype=torch.float32, hidden=256)
    x = torch.rand(70, *SHAPE, generator=torch.Generator().manual_seed(1))
    whole = KernelFlow(flow)

    def found(threads):
        fixed = whole.with_threads(threads)
        variable = x.clone().requires_grad_(True)
        z, log_det = fixed.forward(variable)
        (gradient,) = torch.autograd.grad((z.square().sum(1) + log_det).sum(), variable)
        latent = z.detach().clone().requires_grad_(True)
        images, back = fixed.inverse(latent)
        return (
            z,
            log_det,
            gradient,
            images,
            back,
            torch.autograd.grad((images.flatten(1).sum(1) + back).sum(), latent)[0],
        )

    alone = found(1)
    # Rounds of as many groups as threads; the last of fewer.
    for threads in (2, 3, 4, 9):
        for one, together in zip(alone, found(threads), strict=True):
            assert torch.equal(one, together)


@needs_compiler
def test_a_gradient_is_taken_once_and_passes_do_not_share_memory():
    fixed = KernelFlow(small_flow("haar_glow", dtype=torch.float32))
    first, second = (torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    wanted = []
    for x in (first, second):
        variable = x.clone().requires_grad_(True)
        wanted.append(torch.autograd.grad(fixed.log_prob(variable).sum(), variable)[0])
    variables = [x.clone().requires_grad_(True) for x in (first, second)]
    values = [fixed.log_prob(variable) for variable in variables]
    for value, variable, gradient in zip(values, variables, wanted, strict=True):
        assert torch.equal(torch.autograd.grad(value.sum(), variable, retain_graph=True)[0], gradient)
    with pytest.raises(RuntimeError, match="taken once"):
        torch.autograd.grad(values[0].sum(), variables[0])


@needs_compiler
def test_one_broken_image_does_not_reach_the_others():
    fixed = KernelFlow(small_flow("haar_glow", dtype=torch.float32))
    x = torch.rand(9, *SHAPE)
    broken = x.clone()
    broken[3] = torch.nan
    broken[4, 0, 0, 0] = torch.inf
    found = fixed.log_prob(broken)
    assert not torch.isfinite(found[3]) and not torch.isfinite(found[4])
    others = [0, 1, 2, 5, 6, 7, 8]
    assert torch.equal(found[others], fixed.log_prob(x)[others])


@needs_compiler
@pytest.mark.parametrize(("name", "shape", "settings"), CASES)
def test_several_groups_at_once_are_groups_one_by_one(name, shape, settings, monkeypatch):
    flow = small_flow(name, shape, torch.float32, **settings)
    x = torch.rand(70, *shape, generator=torch.Generator().manual_seed(1))
    ends = []
    for heavy in (10**9, 0):
        monkeypatch.setattr("flowprior.models.flows.evaluators.by_kernel._HEAVY", heavy)
        fixed, likelihood = KernelFlow(flow).with_threads(2), KernelLikelihood(flow)
        variable = x.clone().requires_grad_(True)
        values = fixed.log_prob(variable)
        likelihood.refresh()
        share = likelihood.share(x)
        ends.append((values.detach(), torch.autograd.grad(values.sum(), variable)[0], share.by_constants))
    assert torch.equal(ends[0][0], ends[1][0]) and torch.equal(ends[0][1], ends[1][1])
    close(ends[1][2], ends[0][2])


@needs_compiler
def test_threads_that_ask_at_once_get_rooms_of_their_own():
    fixed = KernelFlow(small_flow("haar_glow", dtype=torch.float32)).with_threads(1)
    batches = [torch.rand(count, *SHAPE) for count in (64, 16, 33, 64)] * 8
    wanted = [fixed.log_prob(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, value in zip(pool.map(fixed.log_prob, batches), wanted, strict=True):
            assert torch.equal(found, value)


@needs_compiler
def test_a_gradient_uses_the_threads_of_its_pass(monkeypatch):
    fixed = KernelFlow(small_flow("haar_glow", dtype=torch.float32))
    x = torch.rand(40, *SHAPE)
    before, ends, seen = torch.get_num_threads(), [], []
    exact = fixed.run
    monkeypatch.setattr(fixed, "run", lambda *given: seen.append(given[-1].threads) or exact(*given))
    try:
        for later in (1, 3):
            torch.set_num_threads(1)
            variable = x.clone().requires_grad_(True)
            value = fixed.log_prob(variable).sum()
            torch.set_num_threads(later)
            ends.append(torch.autograd.grad(value, variable)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*ends) and seen == [1, 1, 1, 1]


@needs_compiler
@pytest.mark.parametrize("rows", [torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.rand(2, 3, 8, 4)])
def test_rows_that_the_kernel_cannot_read_are_refused(rows):
    flow = small_flow("haar_glow", dtype=torch.float32)
    likelihood = KernelLikelihood(flow)
    with pytest.raises(RuntimeError, match="call refresh"):
        likelihood.gradients([])
    for ask in (KernelFlow(flow).log_prob, likelihood.share):
        with pytest.raises(ValueError, match=r"float32 rows \(N, 192\)"):
            ask(rows)


@needs_compiler
@pytest.mark.parametrize("name", flows.names())
def test_samples_are_the_flows_samples(name):
    flow = small_flow(name, dtype=torch.float32)
    found = KernelFlow(flow).sample(5, 0.7, torch.Generator().manual_seed(3))
    close(found, flow.sample(5, 0.7, torch.Generator().manual_seed(3)))


@needs_compiler
@pytest.mark.parametrize("solver", ["map", "chavez", "csgm", "glowip"])
def test_a_solution_is_that_of_the_flow_itself(solver, request):
    operator = small_operator("box_blur", SHAPE)
    flow = small_flow("haar_glow", SHAPE, torch.float32)
    y = operator.measure(torch.rand(3, *SHAPE), 0.02, torch.Generator().manual_seed(4))
    quick = solvers.solve(solver, operator, y, flow, steps=20)
    request.getfixturevalue("no_kernel")
    plain = solvers.solve(solver, operator, y, flow, steps=20)
    torch.testing.assert_close(quick.images, plain.images, rtol=0, atol=1e-3)
    torch.testing.assert_close(quick.trace.values["loss"], plain.trace.values["loss"], rtol=1e-3, atol=1e-2)


@needs_compiler
def test_a_search_leaves_torch_its_threads():
    operator, flow = small_operator("identity", SHAPE), small_flow("haar_glow", SHAPE, torch.float32)
    before = torch.get_num_threads()
    seen = []
    try:
        torch.set_num_threads(2)
        solvers.solve(
            "map", operator, torch.rand(2, *SHAPE), flow, steps=1,
            observer=lambda images: seen.append(torch.get_num_threads()) or {},
        )  # fmt: skip
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_constants_are_folded_once():
    flow = small_flow("haar_glow")
    kinds = [step.kind for step in folded(flow).steps]
    level = ["haar", *["affine", "coupling"] * SMALL_FLOWS["haar_glow"]["steps"], "split"]
    assert kinds == level * SMALL_FLOWS["haar_glow"]["levels"]


def test_a_flow_of_couplings_alone_can_be_learned_and_one_that_ends_in_a_relu_is_not_folded():
    def flow_with(*network):
        couplings = [Coupling(nn.Sequential(nn.Conv2d(6, 12, 3, padding=1), *network), tanh_affine) for _ in range(2)]
        return Flow(SHAPE, None, [Chain([Squeeze(), *couplings])], [])

    flow = flow_with()
    x = torch.rand(5, *SHAPE)
    if compiled.kernel() is not None:
        likelihood = KernelLikelihood(flow)
        likelihood.refresh()
        wanted = torch.autograd.grad(-flow.log_prob(x).sum(), list(flow.parameters()))
        for found, gradient in zip(likelihood.gradients([likelihood.share(x)]), wanted, strict=True):
            close(found, gradient)
    with pytest.raises(NotFoldableError, match="ends in a ReLU"):
        folded(flow_with(nn.ReLU()))


def test_what_cannot_be_folded_is_said_and_runs_by_torch():
    class Odd(Bijection):
        def forward(self, x):
            return x, x.new_zeros(len(x))

        inverse = forward

    flow = small_flow("haar_glow", dtype=torch.float32)
    flow.levels[0].parts.append(Odd())
    with pytest.raises(NotFoldableError, match="Odd"):
        folded(flow)
    operator = small_operator("identity", SHAPE)
    result = solvers.solve("map", operator, torch.rand(2, *SHAPE), flow, steps=2)
    assert result.status == ("ok", "ok")
    with pytest.raises(NotFoldableError, match="float64"):
        KernelFlow(small_flow("haar_glow", dtype=torch.float64))


@needs_compiler
def test_the_kernel_is_built_once_and_a_broken_compiler_stops_nothing(tmp_path):
    program = "from flowprior.models.flows.evaluators import compiled; print(compiled.kernel() is not None)"

    def told(**variables):
        import os

        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), **variables}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        return done.stdout.strip(), done.stderr

    assert told() == ("True", "")
    (built,) = (tmp_path / "flowprior").iterdir()
    when = built.stat().st_mtime_ns
    assert told() == ("True", "")
    assert built.stat().st_mtime_ns == when
    found, said = told(CC="false")
    assert found == "False" and "torch runs them" in said
    assert told(FLOWPRIOR_COMPILE="0") == ("False", "")
