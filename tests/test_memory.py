"""What is remembered of a prior belongs to that prior, as it was."""

import numpy as np
import pytest
import torch
from pieces import MODEL_WITH, shaken, small_flow, small_model, small_operator

from flowprior import solvers
from flowprior.device import device_for
from flowprior.errors import FlowpriorError
from flowprior.models.capabilities import Denoises, LinearEstimate, LinearGaussian
from flowprior.models.gaussian import Gaussian
from flowprior.solvers.memory import Memory, content_of

SHAPE = (3, 8, 8)
NAMES = [name for name in solvers.names() if solvers.REGISTRY.get(name).needs is not None]


def prior_of(solver, seed):
    source = torch.Generator().manual_seed(seed)
    if solvers.REGISTRY.get(solver).needs in (LinearEstimate, LinearGaussian, Denoises):
        return Gaussian.fit(torch.rand(64, *SHAPE, generator=source))
    own = MODEL_WITH.get(solvers.REGISTRY.get(solver).needs.__name__)
    model = shaken(small_model(own)) if own else small_flow("haar_glow", SHAPE, torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=source)
    return model


def settings_of(solver):
    model = solvers.REGISTRY.get(solver).Settings.model_fields
    quick = {"steps": 6, "latent_steps": 6}
    if solver == "map":
        quick |= {"samples": 64, "start": "sample_moments"}
    return {name: value for name, value in quick.items() if name in model}


def solve(solver, prior, memory=None, operator=None):
    operator = operator or small_operator("box_blur", SHAPE)
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(2))
    y = operator.measure(x, 0.05, torch.Generator().manual_seed(4))
    return solvers.solve(solver, operator, y, prior, memory=memory, **settings_of(solver)).images


@pytest.fixture(params=["dict", "Memory", "without kernel"])
def memory(request):
    return {"dict": dict, "Memory": Memory, "without kernel": lambda: Memory(kernel=False)}[request.param]()


@pytest.mark.parametrize("solver", NAMES)
def test_another_prior_gives_its_own_solution(solver, memory):
    one, other = prior_of(solver, 1), prior_of(solver, 2)
    first = solve(solver, one, memory)
    second = solve(solver, other, memory)
    torch.testing.assert_close(second, solve(solver, other), rtol=0, atol=2e-4)
    assert (first - second).abs().max() > 1e-3
    assert torch.equal(solve(solver, one, memory), first)


def by_hand(flow):
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(1.5)


def by_data(flow):
    for parameter in flow.parameters():
        parameter.data *= 1.5


def by_loading(flow):
    flow.load_state_dict({name: 1.5 * value for name, value in flow.state_dict().items()})


def by_training(flow):
    optimiser = torch.optim.Adam(flow.parameters(), lr=0.05, fused=True)
    (-flow.log_prob(torch.rand(8, *SHAPE)).mean()).backward()
    optimiser.step()


@pytest.mark.parametrize("change", [by_hand, by_data, by_loading, by_training])
def test_a_prior_that_has_changed_since_is_another(change, memory):
    flow = prior_of("map", 1)
    before = solve("map", flow, memory)
    change(flow)
    after = solve("map", flow, memory)
    torch.testing.assert_close(after, solve("map", flow), rtol=0, atol=2e-4)
    assert (before - after).abs().max() > 1e-3


def test_a_gaussian_changed_in_place_is_another():
    gaussian, memory = prior_of("linear_mmse", 1), {}
    before = solve("linear_mmse", gaussian, memory)
    gaussian.mean.add_(0.1)
    after = solve("linear_mmse", gaussian, memory)
    assert torch.equal(after, solve("linear_mmse", gaussian)) and not torch.equal(after, before)


def test_what_a_gaussian_derives_from_its_covariance_follows_it():
    gaussian = prior_of("linear_mmse", 1)
    gaussian.covariance.diagonal().add_(0.1)
    x = torch.rand(2, *SHAPE)
    before = gaussian.log_prob(x)
    gaussian.covariance.mul_(2)
    fresh = Gaussian(SHAPE, gaussian.mean.clone(), gaussian.covariance.clone())
    assert torch.equal(gaussian.log_prob(x), fresh.log_prob(x)) and not torch.equal(gaussian.log_prob(x), before)
    assert torch.equal(gaussian.root, fresh.root)


@pytest.mark.parametrize("solver", NAMES)
def test_operators_of_one_kind_are_told_apart(solver):
    prior, memory = prior_of(solver, 1), {}
    small, large = (small_operator("box_blur", SHAPE), small_operator("center_mask", SHAPE))
    solve(solver, prior, memory, small)
    found = solve(solver, prior, memory, large)
    torch.testing.assert_close(found, solve(solver, prior, None, large), rtol=0, atol=2e-4)


def test_the_same_prior_is_derived_from_once():
    memory = Memory()
    flow = prior_of("map", 1)
    assert memory.of(flow) is memory.of(flow)
    assert content_of(flow) == content_of(prior_of("map", 1))
    assert memory.of(flow) is not memory.of(prior_of("map", 1))


def test_modes_and_types_are_content():
    flow = prior_of("map", 1)
    before = content_of(flow)
    assert content_of(flow.train()) != before
    assert content_of(flow.eval()) == before
    assert content_of(flow.double()) != before


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said():
    assert device_for(0).type == "cpu"
    with pytest.raises(FlowpriorError, match="1 GPU asked for, and torch sees 0"):
        device_for(1)


def test_more_gpus_than_torch_sees_are_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_for(2).type == "cuda"
    with pytest.raises(FlowpriorError, match="3 GPUs asked for, and torch sees 2"):
        device_for(3)


def test_a_full_gpu_halves_the_batch_and_goes_on(monkeypatch):
    from flowprior.solvers import sweep

    operator, flow, sizes = small_operator("identity", SHAPE), prior_of("map", 1), []
    y = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(2))
    plain = sweep.solve

    def crowded(name, operator, y, *args, **kwargs):
        sizes.append(len(y))
        if len(y) > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return plain(name, operator, y, *args, **kwargs)

    points, keys = [{"steps": 3, "noise_std": noise} for noise in (0.1, 0.2)], list("abcde")
    wanted = list(solvers.solve_points("map", operator, y, flow, points, keys=keys, batch=10))
    monkeypatch.setattr(sweep, "solve", crowded)
    found = list(solvers.solve_points("map", operator, y, flow, points, keys=keys, batch=10))
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    for point in (0, 1):
        images = [torch.cat([part.result.images for part in parts if part.point == point]) for parts in (wanted, found)]
        torch.testing.assert_close(*images, rtol=0, atol=2e-4)
    monkeypatch.setattr(sweep, "solve", lambda *args, **kwargs: crowded(*args[:2], y, **kwargs))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        list(solvers.solve_points("map", operator, y[:1], flow, points[:1], keys=["a"], batch=1))


def test_a_covariance_holds_few_images_at_a_time(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (2500, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "train.npy", pixels)
    largest = []
    from flowprior.models import gaussian as module

    plain = module.to_float
    monkeypatch.setattr(module, "to_float", lambda part: largest.append(len(part)) or plain(part))
    found = Gaussian.fit_pixels(np.load(tmp_path / "train.npy", mmap_mode="r"))
    assert max(largest) <= 1024
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2).reshape(2500, -1).double() / 255
    torch.testing.assert_close(found.mean, values.mean(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.covariance, torch.cov(values.T, correction=0), rtol=0, atol=1e-8)
