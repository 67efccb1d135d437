"""What of a recorded flow needs no GPU: which shapes are recorded, when, and what happens when that fails."""

import warnings
import weakref

import pytest
import torch
from pieces import small_flow, small_operator

from flowprior import solvers
from flowprior.models.flows.evaluators import FoldedFlow, GraphFlow
from flowprior.models.flows.evaluators.by_graphs import OFTEN, cuda_graph, owned

SHAPE = (3, 8, 8)


class Recorder:
    """Stands for CUDA graphs: a recording is for one shape and says when it is used."""

    def __init__(self, failure=None):
        self.made, self.launched, self.failure = [], [], failure

    def __call__(self, plain, rows):
        self.made.append(tuple(rows.shape))
        if self.failure is not None:
            raise self.failure

        def launch(given):
            assert given.shape == rows.shape
            self.launched.append(tuple(given.shape))
            return plain(given)

        return launch


def graphed(failure=None):
    plain = FoldedFlow(small_flow("haar_glow"), torch.float64)
    recorder = Recorder(failure)
    return plain, recorder, GraphFlow(plain, recorder)


def with_gradient(count):
    return torch.rand(count, *SHAPE, dtype=torch.float64).requires_grad_(True)


def test_a_shape_is_recorded_when_it_comes_often_and_the_values_are_the_same():
    plain, recorder, flow = graphed()
    x = with_gradient(3)
    wanted = plain.log_prob(x)
    for _ in range(OFTEN - 1):
        assert torch.equal(flow.log_prob(x), wanted)
    assert recorder.made == []
    for _ in range(4):
        found = flow.log_prob(x)
        assert torch.equal(found, wanted)
        assert torch.equal(torch.autograd.grad(found.sum(), x)[0], torch.autograd.grad(plain.log_prob(x).sum(), x)[0])
    assert recorder.made == [(3, *SHAPE)] and recorder.launched == [(3, *SHAPE)] * 4


def test_there_is_one_recording_and_it_goes_when_another_shape_comes():
    plain, recorder, flow = graphed()
    large, small = with_gradient(3), with_gradient(2)
    for _ in range(OFTEN):
        flow.forward(large)
    held = weakref.ref(flow._recorded)
    assert torch.equal(flow.log_prob(small), plain.log_prob(small))
    assert held() is None
    # Its turn begins again, for either shape.
    for _ in range(OFTEN - 1):
        flow.forward(large)
    assert recorder.made == [(3, *SHAPE)] and recorder.launched == [(3, *SHAPE)]
    for _ in range(OFTEN):
        flow.forward(small)
    assert recorder.made == [(3, *SHAPE), (2, *SHAPE)]


def test_both_directions_are_recorded():
    plain, recorder, flow = graphed()
    z = torch.randn(3, flow.dimensions, dtype=torch.float64).requires_grad_(True)
    for _ in range(OFTEN):
        flow.forward(with_gradient(3))
    for _ in range(OFTEN):
        found = flow.inverse(z)
    assert recorder.made == [(3, *SHAPE), (3, flow.dimensions)]
    for ours, wanted in zip(found, plain.inverse(z), strict=True):
        assert torch.equal(ours, wanted)


def reused(plain, example):
    """A pass as CUDA graphs leave it: results and gradients of every launch lie in the same memory."""
    values, log_det = plain(example)
    outputs, gradient = (torch.empty_like(values), torch.empty_like(log_det)), torch.empty_like(example)

    class Launched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, rows):
            ctx.save_for_backward(rows)
            for room, value in zip(outputs, plain(rows), strict=True):
                room.copy_(value)
            return tuple(room.detach() for room in outputs)

        @staticmethod
        def backward(ctx, *by_outputs):
            with torch.enable_grad():
                rows = ctx.saved_tensors[0].detach().requires_grad_(True)
                gradient.copy_(torch.autograd.grad(plain(rows), rows, by_outputs)[0])
            return gradient.detach()

    return Launched.apply


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_what_a_recording_gives_stays_when_it_is_launched_again(direction):
    plain = getattr(FoldedFlow(small_flow("haar_glow"), torch.float64), direction)
    shape = SHAPE if direction == "forward" else (192,)
    inputs = [0.5 * torch.rand(3, *shape, dtype=torch.float64) for _ in range(3)]
    passes = (owned(reused(plain, inputs[0].clone().requires_grad_(True))), plain)
    ends = [[with_ends(function, rows) for rows in inputs] for function in passes]
    for ours, wanted in zip(*ends, strict=True):
        for found, exact in zip(ours, wanted, strict=True):
            torch.testing.assert_close(found, exact)


def with_ends(function, rows):
    """Values, log-determinants and a gradient of a pass."""
    variable = rows.clone().requires_grad_(True)
    values, log_det = function(variable)
    (gradient,) = torch.autograd.grad((values.square().flatten(1).sum(1) + log_det).sum(), variable)
    return values.detach(), log_det.detach(), gradient


def test_the_gradient_of_an_overwritten_pass_is_refused():
    plain = FoldedFlow(small_flow("haar_glow"), torch.float64).forward
    x = with_gradient(3)
    launch = owned(reused(plain, x))
    first = launch(x)[0]
    launch(x)
    with pytest.raises(RuntimeError, match="until the next pass; evaluate it again"):
        torch.autograd.grad(first.sum(), x)


def test_without_gradient_nothing_is_recorded():
    _, recorder, flow = graphed()
    for _ in range(2 * OFTEN):
        flow.forward(torch.rand(3, *SHAPE, dtype=torch.float64))
        with torch.no_grad():
            flow.forward(with_gradient(3))
    assert recorder.made == []


def test_a_failure_is_said_once_and_the_flow_goes_on():
    plain, recorder, flow = graphed(RuntimeError("operation not permitted when stream is capturing\nmore"))
    x = with_gradient(3)
    for _ in range(OFTEN - 1):
        flow.log_prob(x)
    with pytest.warns(RuntimeWarning, match=r"'haar_glow'.*\(operation not permitted when stream is capturing\)"):
        assert torch.equal(flow.log_prob(x), plain.log_prob(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2 * OFTEN):
            flow.log_prob(with_gradient(2))
    assert len(recorder.made) == 1


def test_graphs_are_refused_on_the_cpu():
    with pytest.raises(RuntimeError, match="got rows on cpu"):
        cuda_graph(lambda rows: (rows, rows.sum(1)), torch.zeros(2, 3))


@pytest.mark.parametrize("solver", ["map", "chavez"])
@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_a_search_through_recordings_is_the_search(solver, optimiser, monkeypatch):
    operator, flow = small_operator("box_blur", SHAPE), small_flow("haar_glow")
    y = operator.measure(torch.rand(3, *SHAPE, dtype=torch.float64), 0.02, torch.Generator().manual_seed(4))
    settings = {"steps": 3 * OFTEN, "optimiser": optimiser} | ({"smoothing": 0.001} if solver == "chavez" else {})
    wanted = solvers.solve(solver, operator, y, flow, **settings)
    recorder = Recorder()
    recording = GraphFlow(FoldedFlow(flow, torch.float64), recorder)
    monkeypatch.setattr("flowprior.models.evaluator.by_torch", lambda *_: recording)
    found = solvers.solve(solver, operator, y, flow, **settings)
    assert recorder.launched
    torch.testing.assert_close(found.images, wanted.images)
    assert torch.equal(found.passes, wanted.passes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_on_a_gpu_a_recording_computes_what_was_recorded(direction):
    plain = FoldedFlow(small_flow("haar_glow").cuda(), torch.float64)
    flow = GraphFlow(plain)
    shape = SHAPE if direction == "forward" else (flow.dimensions,)
    inputs = [0.5 * torch.rand(3, *shape, dtype=torch.float64).cuda() for _ in range(3 * OFTEN)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ends = [[with_ends(getattr(prior, direction), rows) for rows in inputs] for prior in (flow, plain)]
    # After all launches: no result lies in memory that a later launch overwrites.
    for ours, wanted in zip(*ends, strict=True):
        for found, exact in zip(ours, wanted, strict=True):
            torch.testing.assert_close(found, exact)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_on_a_gpu_the_memory_of_a_recording_comes_back():
    flow = GraphFlow(FoldedFlow(small_flow("haar_glow").cuda(), torch.float64))

    def held(count):
        for _ in range(OFTEN):
            flow.log_prob(torch.rand(count, *SHAPE, dtype=torch.float64, device="cuda").requires_grad_(True))
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved()

    large = held(4096)
    assert held(8) < large / 2
