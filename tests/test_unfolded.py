"""Unfolded algorithms: the folds are what the paper's equations say, in any memory, and they learn their task."""

import copy

import pytest
import torch
from pieces import SMALL_MODELS, pictures, shaken, small_model, small_operator

from flowprior import models, operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.evaluation import psnr
from flowprior.experiment.feasible import check_feasible
from flowprior.experiment.learning import TrainingJob, learn
from flowprior.experiment.params import Experiment
from flowprior.models.capabilities import Decodes, Density, Solves, Unfolds
from flowprior.models.checkpoint import load_model, save_model
from flowprior.models.unfolded.proximal import shrunk_laplace
from flowprior.operators.task import TaskSettings
from flowprior.solvers.sizing import most_kept
from flowprior.training.loop import train
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import Task, trainable_of

SHAPE = (3, 8, 8)
FLOW = SMALL_MODELS["haar_glow"]
#: Every way to unfold, by the settings that make it.
KINDS = {
    "flow": {"prox": "haar_glow", "prox_settings": FLOW},
    "glow": {"prox": "glow", "prox_settings": SMALL_MODELS["glow"], "folds": 3},
    "tied": {"prox": "haar_glow", "prox_settings": FLOW, "tied": True},
    "last shrinks": {"prox": "haar_glow", "prox_settings": FLOW, "last_shrinks": True, "shrinkage": "laplace"},
    "levels": {"prox": "haar_glow", "prox_settings": FLOW, "shrinkage_by": "level", "start": "pseudo_inverse"},
    "steps": {"prox": "haar_glow", "prox_settings": FLOW, "trains": "steps"},
    "likelihood": {"prox": "haar_glow", "prox_settings": FLOW, "likelihood": 0.01, "data_step": "pseudo_inverse"},
    "unet": {"prox": "unet", "prox_settings": {"width": 4, "levels": 1}, "folds": 3},
    "resnet": {"prox": "resnet", "prox_settings": {"width": 4, "norm": "none"}},
    "batch norm": {"prox": "resnet", "prox_settings": {"width": 4}, "folds": 2},
}
SETTINGS = TrainingSettings(steps=30, batch=16, validate_every=10, warmup=5, learning_rate=2e-3, ema=0.9)


def unfolded(kind, dtype=torch.float64, scale=0.05, **more):
    torch.manual_seed(0)
    model = models.build("unfolded", SHAPE, **{**KINDS[kind], **more}).to(dtype)
    return shaken(model, scale) if scale else model


def problem(name="box_blur", count=3, dtype=torch.float64):
    operator = small_operator(name, SHAPE)
    x = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=dtype)
    return operator, x, operator.A(x)


def task_of(operator="center_mask", noise_std=0.0):
    return Task("t", small_operator(operator), TaskSettings(operator=operator, noise_std=noise_std))


def gradients(model, operator, x, y):
    loss = (model(operator, y) - x).square().sum()
    wanted = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_can(kind):
    model = unfolded(kind)
    assert isinstance(model, Unfolds) and isinstance(model, Solves)
    assert not isinstance(model, Decodes) and not isinstance(model, Density)


def test_a_fold_is_the_papers():
    """Eq. 8 to 11, written out, with the step along the negative gradient."""
    model = unfolded("flow", folds=3)
    operator, _, y = problem()
    norm = torch.linalg.matrix_norm(operator.matrix(), 2) ** 2
    x = model.maps[0].flow.decode(torch.zeros(1, 192, dtype=torch.float64)).expand(3, *SHAPE)
    for fold in range(3):
        x = x - model.step_sizes[fold] / norm * operator.A_adjoint(operator.A(x) - y)
        if fold < 2:
            flow = model.maps[fold + 1].flow
            x = flow.decode(flow.encode(x) / (1 + model.strength_of_folds[fold])).clamp(-1, 2)
    torch.testing.assert_close(model(operator, y), x, atol=1e-5, rtol=0)
    assert len(model.maps) == 3 and model.passes == 5


def test_the_last_fold_without_shrinkage_needs_no_flow():
    """G(F(x)) = x: K folds with one more shrinkage of strength zero are the K folds of the paper."""
    short, long = unfolded("flow", folds=2, scale=0), unfolded("flow", folds=2, last_shrinks=True, scale=0)
    for weight in long.maps.parameters():
        weight.data += 0.05
    short.maps.load_state_dict({k: v for k, v in long.maps.state_dict().items() if not k.startswith("2.")})
    with torch.no_grad():
        long.strengths[1] = -1.0  # exp(-50): none
    operator, _, y = problem()
    torch.testing.assert_close(short(operator, y), long(operator, y), atol=1e-6, rtol=0)
    assert len(long.maps) == len(short.maps) + 1


def test_soft_thresholding_is_the_proximal_map_of_the_l1_norm():
    z, strength = torch.linspace(-2, 2, 41, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    grid = torch.linspace(-3, 3, 60001, dtype=torch.float64)
    best = grid[(0.5 * (grid[None] - z[:, None]).square() + strength * grid.abs()).argmin(1)]
    torch.testing.assert_close(shrunk_laplace(z, strength), best, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("steps", "batch norm")])
def test_memory_makes_no_difference_to_gradients(kind):
    """Through four folds, in float64: the same loss, and gradients equal to 1e-5 by every weight."""
    plain = unfolded(kind, folds=4)
    again = unfolded(kind, folds=4, memory="reversible")
    again.load_state_dict(plain.state_dict())
    operator, x, y = problem()
    torch.testing.assert_close(again(operator, y), plain(operator, y), atol=1e-10, rtol=0)
    for one, other in zip(gradients(again, operator, x, y), gradients(plain, operator, x, y), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def kept(steps, folds, **more):
    """Bytes that autograd keeps at once of an unfolded flow."""
    settings = {"levels": 2, "steps": steps, "hidden": 6}
    model = models.build("unfolded", (3, 16, 16), prox="haar_glow", prox_settings=settings, folds=folds, **more)
    operator = operators.build("center_mask", (3, 16, 16))

    def run(y):
        return (model(operator, y),)

    return most_kept(run, torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)))


def test_reversible_memory_does_not_grow_with_depth_and_with_folds_by_their_boundaries():
    assert kept(8, 3, memory="reversible") < 1.1 * kept(2, 3, memory="reversible")
    assert kept(8, 3) > 2.5 * kept(2, 3)
    grown = kept(8, 5, memory="reversible") - kept(8, 3, memory="reversible")
    # Of a fold: both levels' outputs there and back, latents before and after, and a few images.
    assert grown / 2 < 16 * 4 * 3 * 16 * 16 * 4
    assert grown < 0.2 * (kept(8, 5) - kept(8, 3))


@pytest.mark.parametrize("operator", operators.names())
@pytest.mark.parametrize("kind", ["flow", "unet", "likelihood"])
def test_any_measurement(kind, operator):
    model = unfolded(kind, torch.float32, 0.02)
    operator, _, y = problem(operator, 4, torch.float32)
    whole = solvers.solve("unfolded", operator, y, prior=model)
    assert whole.images.shape == (4, *SHAPE) and whole.status == ("ok",) * 4
    alone = solvers.solve("unfolded", operator, y[2:3], prior=model)
    torch.testing.assert_close(alone.images, whole.images[2:3], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_solver_is_the_model_fold_by_fold(kind):
    model = unfolded(kind, torch.float32)
    operator, x, y = problem(dtype=torch.float32)
    found = solvers.solve("unfolded", operator, y, prior=model, observer=lambda images: {"psnr": psnr(images, x, 1.0)})
    way = [images.detach().clamp(0, 1) for images in model.folds(operator, y)]
    torch.testing.assert_close(found.images, way[-1], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        found.trace.values["psnr"].float(),
        torch.stack([psnr(images, x, 1.0) for images in way]).float(),
        atol=0.02,
        rtol=0,
    )
    assert found.passes.tolist() == [model.passes] * 3 and found.trace.passes[-1] == model.passes
    assert len(found.trace.seconds) == model.settings.folds + 1


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(kind):
    data = pictures(200), pictures(16, 1)
    model = unfolded(kind, torch.float32, scale=0)
    frozen = copy.deepcopy(model.maps.state_dict())
    found = train(model, *data, 8, SETTINGS, (0, "test"), task=task_of())
    assert found.score_name == "psnr" and found.score == max(r["validation_psnr"] for r in found.history)
    assert found.history[-1]["loss_mse"] < found.history[0]["loss_mse"]
    moved = any(not torch.equal(frozen[name], value) for name, value in model.maps.state_dict().items() if "." in name)
    # Norms that start from data have moved before the first step.
    weights = [name for name, _ in model.maps.named_parameters() if "conv" in name]
    assert moved and (kind != "steps" or all(torch.equal(frozen[n], model.maps.state_dict()[n]) for n in weights))
    assert bool((model.steps != 0).any())


def test_it_begins_with_a_trained_flow_and_keeps_it_where_only_steps_learn(tmp_path):
    flow = shaken(small_model("haar_glow"), 0.05)
    model = unfolded("steps", torch.float32, scale=0)
    model.begin_with(flow, "abc")
    for name, value in flow.state_dict().items():
        assert torch.equal(model.maps[0].flow.state_dict()[name], value)
    found = train(model, pictures(64), pictures(16, 1), 8, SETTINGS, (0, "test"), task=task_of())
    for name, value in flow.state_dict().items():
        assert torch.equal(found.model.maps[0].flow.state_dict()[name], value)
    assert trainable_of(model, SETTINGS, 8, task_of()).identity[-1] == "abc"


def test_every_fold_begins_with_the_flow_and_then_goes_its_own_way():
    flow = shaken(small_model("haar_glow"), 0.05)
    model = unfolded("flow", torch.float32, scale=0)
    model.begin_with(flow, "")
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(one.flow.encode(x), flow.encode(x)) for one in model.maps)
    found = train(model, pictures(64), pictures(16, 1), 8, SETTINGS, (0, "test"), task=task_of())
    first, second = (found.model.maps[number].flow.encode(x) for number in (1, 2))
    assert not torch.allclose(first, second, atol=1e-4)


def test_a_job_begins_with_the_weights_of_a_folder(tmp_path):
    import numpy as np

    save_model(tmp_path / "flow", shaken(small_model("haar_glow"), 0.05), {"bits": 8})
    np.save(tmp_path / "images.npy", pictures(40))
    np.save(tmp_path / "validation.npy", pictures(16, 1))
    settings = SETTINGS.model_copy(update={"steps": 4, "validate_every": 2})
    places = {"images": "images.npy", "validation": "validation.npy", "folder": "made", "state": "state"}
    learn(
        TrainingJob(
            **{name: str(tmp_path / place) for name, place in places.items()},
            prior={"model": "unfolded", "settings": KINDS["steps"], "training": settings.model_dump()},
            bits=8,
            seed=3,
            threads=1,
            task={"operator": "center_mask"},
            task_name="t",
            begin=str(tmp_path / "flow"),
        )
    )
    flow, made = load_model(tmp_path / "flow"), load_model(tmp_path / "made")
    assert all(torch.equal(made.maps[0].flow.state_dict()[name], value) for name, value in flow.state_dict().items())


def experiment(**unfolding):
    return Experiment(
        name="x",
        data={"source": "photos", "resolution": 8},
        models={
            "flow": {"model": "haar_glow", "settings": FLOW},
            "net": {"model": "unfolded", "begin": "flow", "settings": {**KINDS["flow"], **unfolding}},
        },
        tasks={"t": {"operator": "identity"}},
        methods={"unfolded": {}},
        validation_images=2,
        test_images=2,
    )


def test_an_experiment_says_what_a_model_begins_with():
    check_feasible(experiment())
    with pytest.raises(FlowpriorError, match=r"prior 'net': .*begin with 'haar_glow': its levels\..* is wanted"):
        check_feasible(experiment(prox_settings={**FLOW, "hidden": 5}))
    with pytest.raises(FlowpriorError, match="it is no denoising network but HaarGlow"):
        check_feasible(experiment(**KINDS["unet"]))


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ({"a": {"model": "haar_glow", "begin": "b"}}, "begin of model 'a':.*'b'"),
        ({"a": {"model": "haar_glow", "begin": "a"}}, r"model 'a' begins with itself \(a -> a\)"),
        ({"a": {"model": "unfolded", "begin": "b"}, "b": {"model": "regressor"}}, "'b', which is trained for one task"),
    ],
)
def test_what_nothing_can_begin_with(priors, message):
    with pytest.raises(ValueError, match=message):
        Experiment(name="x", models=priors, tasks={"t": {"operator": "identity"}}, methods={"map": {}})


def test_a_flow_begins_with_no_other():
    made = experiment().model_dump()
    with pytest.raises(FlowpriorError, match="model 'glow' begins with no other; leave 'begin' out"):
        check_feasible(
            Experiment(
                name="x",
                data={"source": "photos", "resolution": 8},
                models={**{"flow": made["priors"]["flow"]}, "g": {"model": "glow", "begin": "flow", "settings": FLOW}},
                tasks={"t": {"operator": "identity"}},
                methods={"map": {}},
                validation_images=2,
                test_images=2,
            )
        )


@pytest.mark.parametrize(
    "odd",
    [
        {"start": "zero_latent"},
        {"last_shrinks": True},
        {"shrinkage": "laplace"},
        {"shrinkage_by": "level"},
        {"likelihood": 0.1},
    ],
)
def test_what_only_flows_understand(odd):
    with pytest.raises(FlowpriorError, match=f"{next(iter(odd))} .* is for flows, and prox 'unet' is a network"):
        unfolded("unet", **odd)


def test_the_grid_shows_the_way_and_samples_of_every_flow():
    model = unfolded("flow", torch.float32, folds=3)
    grid = trainable_of(model, SETTINGS, 8, task_of()).grid(model, pictures(20), 0)
    rows = ["target", "fold_0", "fold_1", "fold_2", "fold_3", "samples_0", "samples_1", "samples_2"]
    assert grid.facts["rows"] == rows and grid.rows.shape == (8, 16, 8, 8, 3)


def test_step_sizes_are_in_units_of_the_operator():
    """Whatever the operator's norm, the first step is stable: the data term does not grow."""
    for name in operators.names():
        operator, _, y = problem(name)
        model = unfolded("unet", scale=0, folds=1)
        found = model(operator, y)
        assert (operator.A(found) - y).square().sum() <= y.square().sum() + 1e-9


@pytest.mark.parametrize("memory", ["plain", "reversible"])
def test_what_a_flow_makes_of_no_image_goes_no_further(memory):
    """Images so far from those a flow knows that it sends them away by orders: the folds and the gradient end."""
    model = unfolded("flow", torch.float32, 0, folds=4, memory=memory)
    for one in model.maps:
        shaken(one, 0.4)
    operator, x, y = problem("center_mask", 6, torch.float32)
    flow = model.maps[1].flow
    assert float(flow.decode(flow.encode(y) / 2).abs().amax()) > 1000
    _, *folds = model.folds(operator, y)
    assert all(float(images.abs().max()) < 3 for images in folds)
    assert all(bool(torch.isfinite(one).all()) for one in gradients(model, operator, x, y))
