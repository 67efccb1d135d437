"""Solvers: each image its own problem, optimality on problems with known answers, divergence, settings."""

from dataclasses import replace

import pytest
import torch
from pieces import MODEL_WITH, shaken, small_flow, small_model, small_operator

from flowprior import operators, solvers
from flowprior.errors import FlowpriorError, UnknownNameError
from flowprior.models.capabilities import Denoises, LinearEstimate, LinearGaussian
from flowprior.models.gaussian import Gaussian
from flowprior.models.moments import sample_moments
from flowprior.models.posterior import Posterior
from flowprior.optim.problem import SearchSettings, Terms
from flowprior.optim.recorder import Trace
from flowprior.optim.stages import stages_of
from flowprior.randomness import generator
from flowprior.solvers.averaging import best
from flowprior.solvers.base import Context, Result
from flowprior.solvers.memory import Memory
from flowprior.solvers.searching import search

SHAPE = (3, 8, 8)
NAMES = ("a", "b", "c")
LATENT = ("chavez", "csgm", "glowip")


def prior_of(name):
    needs = solvers.REGISTRY.get(name).needs
    if needs in (LinearEstimate, LinearGaussian, Denoises):
        return Gaussian.fit(torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(3)))
    if needs is not None and needs.__name__ in MODEL_WITH:
        return shaken(small_model(MODEL_WITH[needs.__name__]))
    return None if needs is None else small_flow("haar_glow", SHAPE, torch.float32)


def quick(name):
    own = solvers.REGISTRY.get(name).Settings.model_fields
    return {field: 12 for field in ("steps", "latent_steps") if field in own}


def problem(operator_name="identity"):
    operator = small_operator(operator_name, SHAPE)
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(2))
    return operator, operator.measure(x, 0.05, torch.Generator().manual_seed(4))


CASES = [(solver, operator) for solver in solvers.names() if solver != "bm3d" for operator in operators.names()]


@pytest.mark.parametrize(("solver", "operator_name"), CASES)
def test_an_image_does_not_depend_on_its_batch(solver, operator_name):
    operator, y = problem(operator_name)
    prior = prior_of(solver)
    if solver in ("map", "analysis"):
        # L-BFGS enlarges what float32 rounds away in other sums; that it mixes no images shows without it.
        prior, y = prior.double(), y.double()
    together = solvers.solve(solver, operator, y, prior, keys=NAMES, **quick(solver))
    assert together.images.shape == (3, *SHAPE)
    assert together.images.min() >= 0 and together.images.max() <= 1
    assert together.std is None or together.std.shape == (3, *SHAPE)
    assert together.samples is None or (len(together.samples), *together.samples.shape[2:]) == (3, *SHAPE)
    for i, name in enumerate(NAMES):
        alone = solvers.solve(solver, operator, y[i : i + 1], prior, keys=[name], **quick(solver))
        torch.testing.assert_close(alone.images, together.images[i : i + 1], rtol=0, atol=2e-4)
        assert alone.passes[0] == together.passes[i]
        for said, of_all in ((alone.std, together.std), (alone.samples, together.samples)):
            if of_all is not None:
                torch.testing.assert_close(said, of_all[i : i + 1], rtol=0, atol=2e-4)


@pytest.mark.parametrize("solver", [name for name in solvers.names() if name != "bm3d"])
def test_one_diverging_image_leaves_the_others_alone(solver):
    operator, y = problem()
    if not quick(solver):
        pytest.skip("no iterations, nothing to diverge")
    y = y.clone()
    y[1] = float("nan")
    settings = {**quick(solver), **({"start": "zero_latent"} if solver == "map" else {})}
    result = solvers.solve(solver, operator, y, prior_of(solver), keys=NAMES, **settings)
    assert result.status == ("ok", "diverged", "ok")
    assert bool(torch.isfinite(result.images).all())
    good = solvers.solve(solver, operator, y[[0, 2]], prior_of(solver), keys=("a", "c"), **settings)
    torch.testing.assert_close(result.images[[0, 2]], good.images, rtol=0, atol=2e-4)
    if solvers.REGISTRY.get(solver).needs is not None:
        assert result.passes[1] < result.passes[0]


def test_divergence_on_the_way_keeps_the_last_finite_iterate():
    def objective(x, rows):
        loss = x.flatten(1).sum(1)
        # The second image's loss breaks once it has fallen below -1.
        loss = loss + torch.where((torch.arange(2)[rows] == 1) & (loss < -1.0), float("nan"), 0.0)
        return Terms(loss, loss, loss, x)

    start = torch.full((2, 1, 1, 1), 0.5)
    settings = SearchSettings(steps=40, learning_rate=0.1, schedule="constant")
    seen = []
    context = Context(("a", "b"), observer=lambda images: seen.append(images) or {})
    result = search(stages_of(objective, settings), start, settings, context, finish=lambda x: 1 + x / 10)
    assert result.status == ("ok", "diverged")
    last = (result.images[1, 0, 0, 0] - 1) * 10
    assert -1.0 <= last < -0.85


def test_settings_that_are_learned_by_nobody_are_refused():
    operator, y = problem()
    with pytest.raises(FlowpriorError, match="unknown setting 'aplha'; did you mean 'alpha'"):
        solvers.solve("chavez", operator, y, prior_of("chavez"), aplha=1)
    with pytest.raises(UnknownNameError, match="did you mean 'chavez'"):
        solvers.solve("chaves", operator, y, prior_of("chavez"))
    with pytest.raises(FlowpriorError, match="needs a prior that is Density, got NoneType without log_prob"):
        solvers.solve("map", operator, y)
    with pytest.raises(FlowpriorError, match=r"must have shape \(N, 3, 8, 8\), got \(3, 3, 4, 4\)"):
        solvers.solve("map", operator, y[..., :4, :4], prior_of("map"))
    with pytest.raises(FlowpriorError, match="start 'measurement' needs measurements shaped like images"):
        gray = small_operator("channel_mean", SHAPE)
        solvers.solve("map", gray, y[:, :1], prior_of("map"), start="measurement", steps=1)


@pytest.mark.parametrize("solver", LATENT)
def test_weights_are_as_trainable_after_as_before(solver):
    operator, y = problem()
    flow = prior_of(solver)
    parameters = list(flow.parameters())
    parameters[0].requires_grad_(False)
    before = [parameter.requires_grad for parameter in parameters]
    solvers.solve(solver, operator, y, flow, steps=2)
    assert [parameter.requires_grad for parameter in parameters] == before
    assert all(parameter.grad is None for parameter in parameters)


def test_map_of_a_gaussian_flow_is_the_linear_estimate():
    """A fresh additive Glow is linear: its density is Gaussian, and MAP has a closed form."""
    flow = small_flow("glow", SHAPE, torch.float64, coupling="additive", levels=1, steps=1, hidden=4)
    with torch.no_grad():
        for module in flow.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.zero_()
                module.bias.zero_()
    operator = small_operator("identity", SHAPE)
    y = torch.rand(2, *SHAPE, dtype=torch.float64) * 0.2 + 0.4
    sigma = 0.3
    zero = torch.zeros(1, *SHAPE, dtype=torch.float64)
    offset = flow(zero)[0][0]
    matrix = torch.stack([flow(e.reshape(1, *SHAPE))[0][0] - offset for e in torch.eye(192, dtype=torch.float64)], 1)
    left = matrix.T @ matrix + torch.eye(192, dtype=torch.float64) / sigma**2
    right = y.flatten(1).T / sigma**2 - (matrix.T @ offset)[:, None]
    wanted = torch.linalg.solve(left, right).T.reshape(y.shape).clamp(0, 1)
    exact = {"tempering": 0.0, "tolerance": 0.0, "optimiser": "adam"}
    found = solvers.solve("map", operator, y, flow, noise_std=sigma, steps=800, learning_rate=0.02, **exact)
    torch.testing.assert_close(found.images, wanted, rtol=0, atol=1e-4)


def test_chavez_objective_is_equation_4():
    flow = prior_of("chavez")
    operator, y = problem("box_blur")
    seen = solvers.solve("chavez", operator, y, flow, keys=NAMES, alpha=0.05, steps=1, init_std=0.0).trace
    x, log_det = flow.inverse(torch.zeros(3, 192))
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(torch.zeros(3, 192)).sum(1)
    data = ((2 * operator.A(x) - 1) - (2 * y - 1)).abs().flatten(1).sum(1)
    torch.testing.assert_close(seen.values["data_fit"][0], data)
    torch.testing.assert_close(seen.values["loss"][0], data + 0.05 * (log_det - normal))


def test_glowip_starts_at_zero_and_csgm_at_random():
    assert solvers.REGISTRY.settings("glowip").init_std == 0.0
    assert solvers.REGISTRY.settings("csgm").init_std == 1.0
    assert solvers.REGISTRY.settings("chavez").init_std == 0.1


def test_linear_mmse_is_exact_for_a_gaussian():
    """Mean squared error of the estimate equals the posterior variance that the formula promises."""
    source = torch.Generator().manual_seed(0)
    factor = torch.randn(12, 12, generator=source) * 0.05
    draws = (0.5 + torch.randn(20000, 12, generator=source) @ factor.T).reshape(-1, 3, 2, 2)
    gaussian = Gaussian.fit(draws)
    operator = operators.build("channel_mean", (3, 2, 2))
    y = operator.measure(draws, 0.02, source)
    found = solvers.solve("linear_mmse", operator, y, gaussian, noise_std=0.02).images
    forward, covariance = operator.matrix(), gaussian.covariance
    gram = forward @ covariance @ forward.T + 0.02**2 * torch.eye(4, dtype=torch.float64)
    posterior = covariance - covariance @ forward.T @ torch.linalg.solve(gram, forward @ covariance)
    error = (found - draws).square().flatten(1).sum(1).mean().item()
    assert error == pytest.approx(posterior.trace().item(), rel=0.03)


@pytest.mark.parametrize("solver", [*LATENT, "synthesis", "map", "analysis"])
@pytest.mark.parametrize("operator_name", ["center_mask", "channel_mean"])
def test_projection_makes_the_measurement_exact(solver, operator_name):
    operator = small_operator(operator_name, SHAPE)
    x = 0.45 + 0.1 * torch.rand(2, *SHAPE)
    y = operator.A(x)
    extra = {"start": "pseudo_inverse"} if solver in ("map", "analysis") else {"init_std": 0.0}
    result = solvers.solve(solver, operator, y, prior_of(solver), steps=3, project=True, **extra)
    torch.testing.assert_close(operator.A(result.images), y)
    known = operator.A_dagger(y)
    if operator_name == "center_mask":
        mask = operator.known(y).bool().expand_as(known)
        torch.testing.assert_close(result.images[mask], x[mask])


def test_restarts_are_averaged_and_counted():
    operator, y = problem()
    flow = prior_of("chavez")
    result = solvers.solve("chavez", operator, y, flow, keys=NAMES, steps=3, restarts=2)
    single = solvers.solve("chavez", operator, y, flow, keys=NAMES, steps=3)
    assert result.images.shape == single.images.shape
    assert torch.equal(result.passes, 2 * single.passes)
    assert not torch.equal(result.images, single.images)


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_the_best_restart_is_the_one_with_the_lowest_loss(optimiser):
    operator, y = problem("box_blur")
    settings = {"steps": 12, "init_std": 1.0, "optimiser": optimiser, "learning_rate": 0.05}
    given = {"keys": NAMES, "observer": lambda images: {"mean": images.flatten(1).mean(1)}, **settings}
    flow = prior_of("csgm")
    found = solvers.solve("csgm", operator, y, flow, restarts=3, combine="best", **given)
    single = solvers.solve("csgm", operator, y, flow, **given)
    mean = solvers.solve("csgm", operator, y, flow, restarts=3, **given)
    assert mean.latents is None and found.latents.shape == (3, 192)
    images = flow.decode(found.latents)
    torch.testing.assert_close(images.clamp(0, 1), found.images, rtol=0, atol=1e-4)
    loss = (2 * (operator.A(images) - y)).square().flatten(1).sum(1) + 0.01 * found.latents.square().sum(1)
    torch.testing.assert_close(found.trace.values["loss"][-1], loss, rtol=1e-4, atol=1e-3)
    # Among three starts there is a better one of some image, and of no image a worse one.
    gained = single.trace.values["loss"][-1] - loss
    assert bool((gained >= -1e-3).all()) and bool((gained > 1e-3).any())
    assert torch.equal(found.passes, mean.passes)
    torch.testing.assert_close(found.trace.values["mean"][-1], found.images.flatten(1).mean(1))
    for i, name in enumerate(NAMES):
        alone = solvers.solve("csgm", operator, y[i : i + 1], flow, keys=[name], restarts=3, combine="best", **settings)
        torch.testing.assert_close(alone.images, found.images[i : i + 1], rtol=0, atol=1e-3)


def test_a_restart_that_diverged_is_not_the_best():
    loss = torch.tensor([[3.0, -9.0, float("nan"), 1.0, 2.0, 5.0]])
    images = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 2, 2) / 10

    def rows(context):
        seen = {"loss": loss, **{name: value[None] for name, value in context.observer(images).items()}}
        status = ("ok", "diverged", "ok", "ok", "diverged", "diverged")
        trace = Trace(torch.ones(1), torch.ones(1), seen)
        return Result(images, status, torch.ones(6).bool(), torch.arange(6.0), 1.0, trace)

    found = best(3, Context(("a", "b"), observer=lambda images: {"first": images[:, 0, 0, 0]}), rows)
    assert found.status == ("ok", "ok") and found.passes.tolist() == [3.0, 12.0]
    torch.testing.assert_close(found.images[:, 0, 0, 0], torch.tensor([0.0, 0.3]))
    torch.testing.assert_close(found.trace.values["first"], torch.tensor([[0.0, 0.3]]))


@pytest.mark.parametrize("start", ["measurement", "zero_latent"])
def test_under_mirror_images_of_the_prior_a_mirrored_problem_has_the_mirrored_solution(start):
    (operator, y), prior = problem("identity"), prior_of("map")
    settings = {"keys": NAMES, "steps": 5, "mirrors": 4, "start": start}
    found = solvers.solve("map", operator, y, prior, **settings)
    for axes in ((-1,), (-2,), (-2, -1)):
        mirrored = solvers.solve("map", operator, y.flip(axes), prior, **settings)
        torch.testing.assert_close(mirrored.images, found.images.flip(axes), rtol=0, atol=2e-4)
    one = solvers.solve("map", operator, y, prior, keys=NAMES, steps=5, start=start)
    assert not torch.allclose(one.images, found.images)
    assert torch.equal(found.passes, 4 * one.passes)


def test_the_start_from_sample_moments_is_the_flows_best_linear_estimate():
    operator, y = problem("center_mask")
    flow = prior_of("map")
    samples = torch.cat([flow.sample(n, generator=generator(7, "moments", at)) for at, n in ((0, 1024), (1024, 476))])
    expected = Gaussian.fit(samples.clamp(0, 1)).posterior_mean(operator, y, 0.05).clamp(0, 1)
    settings = {"start": "sample_moments", "samples": 1500, "samples_noise_std": 0.05, "learning_rate": 1e-9}
    found = solvers.solve("map", operator, y, flow, keys=NAMES, seed=7, steps=1, **settings)
    torch.testing.assert_close(found.images, expected, rtol=0, atol=1e-5)


def test_the_moments_of_samples_are_fitted_once_per_memory():
    operator, y = problem("center_mask")
    flow, memory = prior_of("map"), Memory()
    settings = {"start": "sample_moments", "samples": 64, "steps": 1}
    first = solvers.solve("map", operator, y, flow, keys=NAMES, memory=memory, **settings)
    derived = memory.of(flow)
    (key,) = [key for key, value in derived.items() if isinstance(value, Gaussian)]
    gaussian = derived[key]
    torch.testing.assert_close(gaussian.mean, sample_moments(flow, 64, 0).mean)
    # The estimate follows from the Gaussian and the operator; it is kept as well.
    (estimate,) = [key for key, value in derived.items() if isinstance(value, Posterior)]
    seen = derived[estimate].observed
    derived[estimate] = replace(
        derived[estimate], observed=replace(seen, gaussian=replace(gaussian, mean=1 - gaussian.mean))
    )
    again = solvers.solve("map", operator, y, flow, keys=NAMES, memory=memory, **settings)
    assert not torch.allclose(first.images, again.images)
    other = solvers.solve("map", operator, y, flow, keys=NAMES, seed=1, memory=memory, **settings)
    assert sum(isinstance(value, Gaussian) for value in derived.values()) == 2
    assert torch.isfinite(other.images).all()


class Sampler:
    """Stands for a flow of which some samples are not finite."""

    def __init__(self, broken):
        self.broken = broken

    def sample(self, count, generator):
        images = torch.rand(count, *SHAPE, generator=generator)
        images[: self.broken, 0, 0, 0] = torch.nan
        return images


def test_a_few_samples_that_are_not_finite_are_left_out():
    found = sample_moments(Sampler(10), 1024, 0)
    wanted = torch.rand(1024, *SHAPE, generator=generator(0, "moments", 0))[10:]
    torch.testing.assert_close(found.mean, wanted.flatten(1).double().mean(0), rtol=0, atol=1e-6)
    with pytest.raises(FlowpriorError, match="11 of 1024 samples of the flow are not finite"):
        sample_moments(Sampler(11), 1024, 0)


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_a_search_says_whether_it_has_converged(optimiser):
    operator, y = problem("box_blur")
    settings = {"optimiser": optimiser, "keys": NAMES, "schedule": "constant"}
    cut = solvers.solve("map", operator, y, prior_of("map"), tolerance=1e-3, steps=3, **settings)
    whole = solvers.solve("map", operator, y, prior_of("map"), tolerance=1e-3, steps=2000, **settings)
    assert not cut.converged.any() and whole.converged.all()
    assert bool((whole.passes < 4000).all())


def test_trace_belongs_to_the_returned_images():
    operator, y = problem()
    observed = solvers.solve(
        "map",
        operator,
        y,
        prior_of("map"),
        optimiser="adam",
        tolerance=0.0,
        steps=10,
        observer=lambda x: {"mean": x.flatten(1).mean(1)},
    )
    torch.testing.assert_close(observed.trace.values["mean"][-1], observed.images.flatten(1).mean(1))
    assert observed.trace.passes[-1] == 20
    assert bool((observed.trace.seconds.diff() >= 0).all())


@pytest.mark.parametrize(("mirrors", "axes"), [(1, [()]), (2, [(), (-1,)]), (4, [(), (-1,), (-2,), (-2, -1)])])
def test_mirrored_moments_are_those_of_images_and_their_mirror_images(mirrors, axes):
    x = torch.rand(300, 3, 4, 4, generator=generator(1, "mirrors"))
    found = Gaussian.fit(x).mirrored(mirrors)
    wanted = Gaussian.fit(torch.cat([x.flip(axis) if axis else x for axis in axes]))
    torch.testing.assert_close(found.mean, wanted.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.covariance, wanted.covariance, rtol=0, atol=1e-6)


def test_gaussian_survives_the_disk(tmp_path):
    gaussian = Gaussian.fit(torch.rand(50, 3, 2, 2))
    gaussian.save(tmp_path / "g.npz")
    again = Gaussian.load(tmp_path / "g.npz")
    assert again.shape == (3, 2, 2)
    torch.testing.assert_close(again.covariance, gaussian.covariance, rtol=1e-5, atol=1e-7)


def test_gaussian_refuses_what_it_cannot_hold():
    with pytest.raises(FlowpriorError, match="at most 12288 values per image, got 49152"):
        Gaussian.fit(torch.zeros(2, 3, 128, 128))
    with pytest.raises(FlowpriorError, match="at least 2 images, got 1"):
        Gaussian.fit(torch.zeros(1, 3, 2, 2))


def test_bm3d_denoises_image_by_image():
    pytest.importorskip("bm3d", reason="bm3d is optional: non-commercial licence")
    operator = operators.build("identity", (3, 16, 16))
    x = torch.full((2, 3, 16, 16), 0.5)
    y = operator.measure(x, 0.1, torch.Generator().manual_seed(1))
    together = solvers.solve("bm3d", operator, y, noise_std=0.1).images
    alone = solvers.solve("bm3d", operator, y[1:], noise_std=0.1).images
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-5)
    assert (together - x).square().mean() < 0.3 * (y - x).square().mean()
    noisy = y[:1] + 0.5
    clipped = solvers.solve("bm3d", operator, noisy, noise_std=0.1, clip=True).images
    # The package adds up in no fixed order.
    same = solvers.solve("bm3d", operator, noisy.clamp(0, 1), noise_std=0.1).images
    torch.testing.assert_close(clipped, same, rtol=0, atol=1e-5)
    assert (clipped - solvers.solve("bm3d", operator, noisy, noise_std=0.1).images).abs().max() > 0.01


def test_bm3d_refuses_what_it_would_crash_on():
    operator, y = problem()
    with pytest.raises(FlowpriorError, match="at least 16x16 pixels, got 8x8"):
        solvers.solve("bm3d", operator, y)


def test_bm3d_only_denoises():
    operator, y = problem("box_blur")
    with pytest.raises(FlowpriorError, match="bm3d denoises only, got the operator BoxBlur"):
        solvers.solve("bm3d", operator, y)


class ThreeNetworks:
    """A density whose every call goes through three networks."""

    passes = 3

    def __init__(self, inner):
        self.inner, self.shape = inner, inner.shape

    def log_prob(self, x):
        return self.inner.log_prob(x)


def test_cost_is_counted_in_passes_through_networks():
    operator, y = problem("box_blur")
    flow = prior_of("map")
    settings = {"start": "pseudo_inverse", "optimiser": "adam", "steps": 5, "tolerance": 0.0, "schedule": "constant"}
    one = solvers.solve("map", operator, y, flow, keys=NAMES, **settings)
    three = solvers.solve("map", operator, y, ThreeNetworks(flow), keys=NAMES, **settings)
    # Five steps forward and backward, and the last iterate's images.
    assert one.passes.tolist() == [11.0] * len(y)
    assert torch.equal(three.passes, 3 * one.passes) and torch.equal(three.trace.passes, 3 * one.trace.passes)
    begun = solvers.solve("map", operator, y, flow, keys=NAMES, **{**settings, "start": "zero_latent"})
    assert torch.equal(begun.passes, 1 + one.passes) and begun.trace.passes[0] == 1


EXTREMES = ["identity", "random_mask", "gaussian_sensing", "channel_mean"]


@pytest.mark.parametrize("operator_name", EXTREMES)
@pytest.mark.parametrize("solver", solvers.names())
def test_noise_and_extreme_contrast_end_with_an_image_each(solver, operator_name):
    shape = (3, 16, 16) if solver == "bm3d" else SHAPE
    operator = small_operator(operator_name, shape)
    if reason := solvers.REGISTRY.get(solver).skip(operator):
        pytest.skip(reason)
    noise = torch.rand(1, *shape, generator=torch.Generator().manual_seed(8))
    board = (torch.arange(shape[1])[:, None] + torch.arange(shape[2])).remainder(2).expand(1, *shape).float()
    images = torch.cat([noise, noise.round(), board, torch.zeros(1, *shape), torch.ones(1, *shape)])
    y = operator.measure(images, 0.2, torch.Generator().manual_seed(9))
    found = solvers.solve(solver, operator, y, prior_of(solver), **quick(solver))
    assert found.status == ("ok",) * 5
    assert bool(torch.isfinite(found.images).all()) and found.images.min() >= 0 and found.images.max() <= 1
    assert bool(torch.isfinite(found.passes).all())
