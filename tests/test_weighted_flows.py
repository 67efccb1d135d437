"""Flows trained through by the kernel: gradients by images, latents and weights are those of torch's layers."""

import copy

import pytest
import torch
from pieces import FLOW_CASES, pictures, small_flow, small_operator

from flowprior import models
from flowprior.models.flows.evaluators import NotFoldableError, WeightedFlow
from flowprior.models.flows.once import SecondDerivativeError
from flowprior.models.unfolded import learning
from flowprior.operators.task import TaskSettings
from flowprior.parallel import one_core_each
from flowprior.training.loop import train
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import Task, trainable_of


def weighted(flow):
    try:
        found = WeightedFlow(flow)
    except NotFoldableError as error:
        pytest.skip(f"the kernel does not run it: {error}")
    found.refresh()
    return found


def rows(flow, seed, count=5):
    source = torch.Generator().manual_seed(seed)
    return torch.rand(count, *flow.shape, generator=source), torch.randn(count, flow.dimensions, generator=source)


def scalar(flow, x, z, seed=3):
    """A number that depends on both directions and both log-determinants, one after the other."""
    source = torch.Generator().manual_seed(seed)
    latents, first = flow.forward(x)
    images, second = flow.inverse(z + 0.5 * latents)
    by = [torch.randn(value.shape, generator=source).to(value) for value in (latents, first, images, second)]
    return sum((value * one).sum() for value, one in zip((latents, first, images, second), by, strict=True))


@pytest.mark.parametrize(("name", "shape", "settings"), FLOW_CASES)
def test_gradients_are_those_of_the_layers(name, shape, settings):
    flow = small_flow(name, shape, torch.float32, **settings)
    by_kernel, exact = weighted(flow), copy.deepcopy(flow).double()
    x, z = rows(flow, 0)
    x.requires_grad_(True)
    z.requires_grad_(True)
    value = scalar(by_kernel, x, z)
    found = torch.autograd.grad(value, [x, z, *by_kernel.leaves])
    found = [*found[:2], *by_kernel.gradients(found[2:])]
    wide = [one.detach().double().requires_grad_(True) for one in (x, z)]
    expected = torch.autograd.grad(scalar(exact, *wide), [*wide, *exact.parameters()], allow_unused=True)
    for one, other in zip(found, expected, strict=True):
        other = torch.zeros_like(one) if other is None else other
        assert (one - other).norm() <= 2e-4 * other.norm() + 1e-4, tuple(one.shape)


def test_it_follows_the_weights_only_when_it_is_told():
    flow = small_flow("haar_glow", dtype=torch.float32)
    by_kernel = weighted(flow)
    x, _ = rows(flow, 0)
    before = by_kernel.forward(x)[0].detach()
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.1)
    assert torch.equal(by_kernel.forward(x)[0], before)
    by_kernel.refresh()
    torch.testing.assert_close(by_kernel.forward(x)[0], flow.forward(x)[0], atol=1e-4, rtol=1e-4)


def test_there_is_no_second_derivative():
    flow = small_flow("haar_glow", dtype=torch.float32)
    by_kernel = weighted(flow)
    x, _ = rows(flow, 0)
    x.requires_grad_(True)
    (first,) = torch.autograd.grad(by_kernel.forward(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(SecondDerivativeError):
        torch.autograd.grad(first.sum(), x)


SETTINGS = TrainingSettings(steps=6, batch=8, validate_every=3, warmup=2, learning_rate=1e-3)


def unfolded(**settings):
    torch.manual_seed(0)
    flow = {"levels": 2, "steps": 2, "hidden": 6}
    return models.build("unfolded", (3, 8, 8), folds=3, prox="haar_glow", prox_settings=flow, **settings)


def task():
    return Task("t", small_operator("center_mask"), TaskSettings(operator="center_mask"))


@pytest.mark.parametrize("settings", [{}, {"tied": True}, {"likelihood": 0.01}, {"shrinkage_by": "level"}], ids=str)
@pytest.mark.parametrize("workers", [1, 2])
def test_an_unfolded_flow_has_the_gradients_of_its_layers(settings, workers, monkeypatch):
    monkeypatch.setattr(learning, "LEAST_PIXELS", 0)
    model = unfolded(**settings)
    model.maps[0].initialise(torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    by_kernel = trainable_of(model, SETTINGS, 8, task())
    assert len(by_kernel._weighted) == len(model.maps)
    monkeypatch.setattr(learning, "LEAST_PIXELS", 10**9)
    by_layers = trainable_of(model, SETTINGS, 8, task())
    assert not by_layers._weighted
    y, images = by_kernel.examples(
        torch.randint(256, (8, 3, 8, 8), generator=torch.Generator().manual_seed(2)).to(torch.uint8),
        torch.Generator().manual_seed(1),
    )
    with one_core_each(workers) as each:
        parts = list(zip(y.chunk(workers), images.chunk(workers), strict=True))
        loss, found = by_kernel.gradients("unfolded", parts, 1 / 8, each)
        wanted, expected = by_layers.gradients("unfolded", parts, 1 / 8, each)
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-6)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 1e-3 * other.norm() + 1e-6


class Killing:
    """Stops a run after its first validation."""

    def resume(self, done):
        raise AssertionError("nothing was there")

    def update(self, done, **facts):
        if done == 10:
            raise KeyboardInterrupt


def test_a_killed_training_by_the_kernel_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "LEAST_PIXELS", 0)
    data, settings = (pictures(40), pictures(16, 1)), SETTINGS.model_copy(update={"steps": 12, "validate_every": 6})
    whole = train(unfolded(), *data, 8, settings, (0, "t"), task=task())
    with pytest.raises(KeyboardInterrupt):
        train(unfolded(), *data, 8, settings, (0, "t"), tmp_path, Killing(), task=task())
    assert list(tmp_path.iterdir())
    again = train(unfolded(), *data, 8, settings, (0, "t"), tmp_path, task=task())
    for one, other in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
