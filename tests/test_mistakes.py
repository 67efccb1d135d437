"""Usual mistakes from Python end in a right result or in one line with the remedy, never in a silently wrong number."""

import weakref

import pytest
import torch
from pieces import FLOW_SHAPE, SMALL_MODELS, small_flow, small_model, small_operator

from flowprior import evaluation, models, operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.models import flows
from flowprior.models.checkpoint import save_model
from flowprior.models.flows.evaluators import FoldedFlow, KernelFlow
from flowprior.models.gaussian import Gaussian
from flowprior.solvers import sweep

NOISE = 0.05


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=source(seed))


def fitted(side=8):
    return Gaussian.fit(0.3 + 0.4 * uniform(40, 3, side, side, seed=5))


def asked(name, **settings):
    """A problem of four images for any registered solver: (operator, measurements, arguments of `solve`)."""
    side = {"bm3d": 16, "csgm": 16}.get(name, 8)
    operator = small_operator("identity", (3, side, side))
    needs = solvers.REGISTRY.get(name).needs
    priors = {
        "linear_mmse": lambda: fitted(side),
        "linear_posterior": lambda: fitted(side),
        "plug_and_play": lambda: fitted(side),
        "regressor": lambda: small_model("regressor").eval(),
        "unfolded": lambda: small_model("unfolded").eval(),
        "csgm": lambda: small_model("dcgan").eval(),
    }
    prior = None if needs is None else priors.get(name, lambda: small_flow("glow", dtype=torch.float32))()
    y = operator.measure(0.2 + 0.6 * uniform(4, 3, side, side), NOISE, source(1))
    own = solvers.REGISTRY.get(name).Settings.model_fields
    settings = {**{field: 4 for field in ("steps", "latent_steps") if field in own}, **settings}
    return operator, y, {"prior": prior, **settings}


EVERY = solvers.names()


def solve(name, change=lambda y: y, **more):
    if name == "bm3d":
        pytest.importorskip("bm3d")
    operator, y, given = asked(name)
    return solvers.solve(name, operator, change(y), **{**given, **more})


def with_value(value):
    def change(y):
        y = y.clone()
        y[1, 0, 2, 3] = value
        return y

    return change


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", EVERY)
def test_a_measurement_that_is_no_number_is_a_status_and_leaves_the_others(name, value):
    good, found = solve(name), solve(name, with_value(value))
    assert found.status == ("ok", "diverged", "ok", "ok")
    assert bool(torch.isfinite(found.images).all()) and float(found.passes[1]) == 0
    others = [0, 2, 3]
    # The threads of bm3d's package add up in any order.
    apart = 1e-5 if name == "bm3d" else 0.0
    torch.testing.assert_close(found.images[others], good.images[others], rtol=0, atol=apart)
    for said, of_all in ((found.std, good.std), (found.samples, good.samples)):
        if of_all is not None:
            assert torch.equal(said[others], of_all[others]) and bool(said[1].isnan().all())


@pytest.mark.parametrize("name", EVERY)
def test_of_no_measurements_the_result_is_empty(name):
    found = solve(name, lambda y: y[:0])
    assert found.images.shape == (0, *asked(name)[0].shape)
    assert found.status == () and len(found.passes) == 0


REFUSED = {
    "numpy": (lambda y: y.numpy(), "must be a torch tensor, got ndarray; convert"),
    "list": (lambda y: y.tolist(), "must be a torch tensor, got list; convert"),
    "text": (lambda y: "y.npy", "must be a torch tensor, got str; convert"),
    "bytes": (lambda y: (255 * y.clamp(0, 1)).byte(), "floating point numbers, got torch.uint8; divide .* by 255"),
    "whole": (lambda y: (255 * y).long(), "floating point numbers, got torch.int64; divide .* by 255"),
    "half": (lambda y: y.half(), r"float32 or float64, got torch.float16; convert it by .float\(\)"),
    "bfloat16": (lambda y: y.bfloat16(), r"float32 or float64, got torch.bfloat16; convert it by .float\(\)"),
    "bytes as floats": (lambda y: 255 * y, r"values in \[0, 1\] and their noise, got .* divide .* by 255"),
    "one bright image": (with_value(255.0), r"values in \[0, 1\] and their noise, got .* to 255; divide .* by 255"),
    "no batch axis": (lambda y: y[0], r"of one alone give a batch: \[None\]"),
    "channels last": (lambda y: y.permute(0, 2, 3, 1), r"channels come first: .permute\(0, 3, 1, 2\)"),
    "other size": (lambda y: y[:, :, 1:], "build it for yours"),
    "a number": (lambda y: torch.tensor(0.5), r"must have shape \(N, 3, "),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("name", ["map", "linear_mmse", "linear_posterior", "regressor", "deep_decoder", "bm3d"])
def test_measurements_that_no_solver_can_mean_are_refused(name, kind):
    change, message = REFUSED[kind]
    with pytest.raises(FlowpriorError, match=message) as refused:
        solve(name, change)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", EVERY)
def test_measurements_in_other_types_and_layouts_give_the_same(name):
    wanted = solve(name)
    backwards = solve(name, lambda y: y.flip(0), keys=list("3210")).images
    torch.testing.assert_close(backwards.flip(0), wanted.images, rtol=0, atol=1e-5)
    for change in (
        lambda y: y.repeat_interleave(2, 0)[::2],
        lambda y: y.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        lambda y: y.clone().requires_grad_(),
    ):
        found = solve(name, change, keys=list("0123"))
        assert not found.images.requires_grad
        torch.testing.assert_close(found.images, wanted.images, rtol=0, atol=1e-5)
    double = solve(name, lambda y: y.double()).images
    weighted = isinstance(asked(name)[2]["prior"], torch.nn.Module)
    assert double.dtype == (torch.float32 if weighted else torch.float64)
    # Steps of Adam at its full rate from the first on enlarge what float32 rounds away.
    torch.testing.assert_close(double.float(), wanted.images, rtol=0, atol=1e-4 if name == "deep_decoder" else 1e-5)


WRONG_ASKED = {
    "no prior": ({"prior": None}, "needs a prior .*pass prior="),
    "a path": ({"prior": "flows/glow"}, "needs a prior .* got str"),
    "no steps": ({"steps": 0}, "steps.* greater than or equal to 1"),
    "text": ({"steps": "many"}, "steps.* got 'many'"),
    "25": ({"noise_std": 25}, r"noise is on values in \[0, 1\], got 25"),
    "a name for all": ({"keys": "abcd"}, "keys must name each image, got one text 'abcd'"),
    "few keys": ({"keys": ["a"]}, "keys must name each of the 4 images, got 1"),
    "keys alike": ({"keys": ["a", "b", "a", "c"]}, "keys must differ, got 'a' twice"),
    "numbers as keys": ({"keys": [0, 1, 2, 3]}, "keys must be texts, got 0"),
    "a broken seed": ({"seed": 0.5}, "seed must be a whole number, got 0.5"),
    "a text as seed": ({"seed": "0"}, "seed must be a whole number, got '0'"),
    "no seed": ({"seed": None}, "seed must be a whole number, got None"),
    "weights out of range": ({"weights": {"noise_std": torch.tensor([0.1, 0.1, -1.0, 0.1])}}, "noise_std.* got -1"),
    "weights of no number": ({"weights": {"noise_std": torch.tensor([0.1, torch.nan, 0.1, 0.1])}}, "noise_std.* nan"),
}


@pytest.mark.parametrize("kind", WRONG_ASKED)
def test_what_a_search_cannot_mean_is_refused(kind):
    more, message = WRONG_ASKED[kind]
    with pytest.raises(FlowpriorError, match=message):
        solve("map", **more)


@pytest.mark.parametrize(
    "name", [n for n in solvers.names() if "noise_std" in solvers.REGISTRY.get(n).Settings.model_fields]
)
def test_noise_of_bytes_is_refused_by_every_solver(name):
    with pytest.raises(FlowpriorError, match=r"noise is on values in \[0, 1\], got 25; of 0 to 255 that is 0.098"):
        solve(name, noise_std=25)


def test_numbers_as_text_are_numbers():
    assert torch.equal(solve("map", noise_std="5e-2").images, solve("map", noise_std=0.05).images)


def test_a_measurement_elsewhere_than_the_prior_is_refused():
    with pytest.raises(FlowpriorError, match=r"lies on cpu, the prior on meta; move one: y.to\('meta'\)"):
        solve("map", prior=small_flow("glow", dtype=torch.float32).to("meta"))


def test_an_operator_by_its_name_is_refused():
    _, y, given = asked("map")
    with pytest.raises(FlowpriorError, match=r"must be one of flowprior.operators, got 'identity'; build it"):
        solvers.solve("map", "identity", y, **given)


def test_vectors_have_a_range_of_their_own():
    operator = small_operator("gaussian_sensing")
    y = 20 * operator.measure(uniform(2, *FLOW_SHAPE))
    assert solvers.solve("linear_mmse", operator, y, prior=fitted(), noise_std=NOISE).status == ("ok", "ok")


@pytest.mark.parametrize("name", [name for name in solvers.names() if name != "bm3d"])
def test_settings_of_an_operator_that_change_are_seen(name):
    _, _, given = asked(name)
    side = 16 if name == "csgm" else 8
    operator, memory = small_operator("box_blur", (3, side, side), size=3), {}
    y = operator.measure(0.2 + 0.6 * uniform(2, 3, side, side), NOISE, source(1))
    before = solvers.solve(name, operator, y, memory=memory, **given).images
    operator.settings = type(operator.settings)(size=5)
    after = solvers.solve(name, operator, y, memory=memory, **given).images
    fresh = solvers.solve(name, small_operator("box_blur", (3, side, side), size=5), y, **given).images
    assert torch.equal(after, fresh) and not torch.equal(after, before)


@pytest.mark.parametrize("name", operators.names())
@pytest.mark.parametrize("method", ["A", "A_adjoint", "A_dagger"])
def test_an_operator_refuses_other_shapes_and_types(name, method):
    operator = small_operator(name)
    shape = operator.shape if method == "A" else operator.measurement_shape
    for wrong, message in (
        (uniform(2, *shape[:-1], shape[-1] + 1), r"must have shape \(N, "),
        (uniform(*shape), r"must have shape \(N, .*\[None\]"),
        (torch.ones(2, *shape, dtype=torch.uint8), "floating point numbers, got torch.uint8; divide"),
        (uniform(2, *shape).numpy(), "must be a torch tensor, got ndarray"),
    ):
        with pytest.raises(FlowpriorError, match=message):
            getattr(operator, method)(wrong)


@pytest.mark.parametrize("name", operators.names())
def test_a_measurement_takes_noise_of_its_own_shape_and_range(name):
    operator, x = small_operator(name), uniform(2, *FLOW_SHAPE)
    for noise_std, message in (
        (-0.1, "at least 0, got -0.1"),
        (torch.nan, "at least 0, got nan"),
        (torch.inf, "at least 0, got inf"),
        (25, r"on values in \[0, 1\], got 25; of 0 to 255 that is 25/255"),
        ("0.1", "must be one number, got str 0.1"),
        (torch.tensor([0.1, 0.2]), "must be one number, got Tensor"),
    ):
        with pytest.raises(FlowpriorError, match=message):
            operator.measure(x, noise_std, source())
    with pytest.raises(FlowpriorError, match=r"generator must be a torch.Generator, got 0"):
        operator.measure(x, NOISE, 0)
    for noise in (torch.ones(1), torch.ones(operator.measurement_shape), torch.ones(1, *operator.measurement_shape)):
        with pytest.raises(FlowpriorError, match="noise must have the measurement's shape"):
            operator.measure(x, NOISE, noise=noise)
    with pytest.raises(FlowpriorError, match="divide values of 0 to 255 by 255"):
        operator.measure(255 * x, NOISE, source())


def test_a_generator_draws_where_it_lies(monkeypatch):
    drawn, randn = [], torch.randn
    monkeypatch.setattr(
        torch, "randn", lambda *args, **given: (drawn.append(given.get("device")), randn(*args, **given))[1]
    )
    small_operator("identity").measure(uniform(1, *FLOW_SHAPE), NOISE, source())
    assert drawn == [torch.device("cpu")]


SAMPLERS = {
    "gaussian": fitted,
    **{name: (lambda name=name: small_flow(name, dtype=torch.float32)) for name in flows.names()},
    "kernel": lambda: KernelFlow(small_flow("glow", dtype=torch.float32)),
    "unrolled": lambda: FoldedFlow(small_flow("glow", dtype=torch.float32), torch.float32),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_never_come_from_the_global_generator(name):
    model = SAMPLERS[name]()
    before = torch.get_rng_state()
    for count, given, message in (
        (2, {}, r"need a generator, got None; pass generator=torch.Generator\(\).manual_seed\(0\)"),
        (2, {"generator": 3}, "need a generator, got 3"),
        (-1, {"generator": source()}, "count must be .* at least 0, got -1"),
        (2.0, {"generator": source()}, "count must be a whole number"),
        (2, {"generator": source(), "temperature": -0.5}, "temperature must be at least 0, got -0.5"),
        (2, {"generator": source(), "temperature": torch.nan}, "temperature must be at least 0, got nan"),
    ):
        with pytest.raises(FlowpriorError, match=message):
            model.sample(count, **given)
    assert model.sample(0, generator=source()).shape == (0, *FLOW_SHAPE)
    assert model.sample(2, temperature=0.0).shape == (2, *FLOW_SHAPE)
    assert torch.equal(torch.get_rng_state(), before)


METRICS = [evaluation.psnr, evaluation.ssim, evaluation.psnr_chavez2021]


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_refuse_what_they_cannot_compare(metric):
    x, other = uniform(2, 3, 16, 16), uniform(2, 3, 16, 16, seed=1)
    pixels = (255 * x).byte()
    for a, b, data_range, message in (
        (x, other[:1], 1.0, "same shape"),
        (x, other[:, :1], 1.0, "same shape"),
        (x[0], other[0], 1.0, "same shape"),
        (x, other.numpy(), 1.0, "torch tensors, got ndarray"),
        (pixels, pixels, 1.0, "do not go with data_range 1; divide bytes by 255"),
        (x, pixels, 255, "do not go with data_range 255"),
        (x, other, 0, "data_range must be above 0, got 0"),
        (x, other, -1.0, "data_range must be above 0, got -1"),
        (x, other, torch.nan, "data_range must be above 0, got nan"),
        (255 * x, 255 * other, 1.0, "more than data_range 1; divide both by 255"),
        (255 * x, other, 1.0, "images have values .* far from data_range 1"),
        (x, 255 * other, 1.0, "references have values .* more than data_range 1"),
    ):
        with pytest.raises(FlowpriorError, match=message):
            metric(a, b, data_range)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_take_bytes_and_leave_what_is_no_number_to_its_image(metric):
    x, other = uniform(3, 3, 16, 16), uniform(3, 3, 16, 16, seed=1)
    a, b = (255 * x).byte(), (255 * other).byte()
    torch.testing.assert_close(metric(a, b, 255), metric(a / 255, b / 255, 1.0), rtol=1e-5, atol=1e-5)
    wanted = metric(x, other)
    x[1, 0, 3, 3] = torch.nan
    found = metric(x, other)
    assert bool(found[1].isnan()) and torch.equal(found[[0, 2]], wanted[[0, 2]])
    assert metric(x[:0], other[:0]).shape == (0,)


SHAPES = [(1, 28, 28), (3, 33, 33), (3, 2, 2), (4, 32, 32), (3, 32, 48)]
WRONG_SHAPES = {
    (3.0, 8.0, 8.0): "in whole numbers",
    (1, 3, 8, 8): "without the batch's size",
    (8, 8): "each at least 1",
    (0, 8, 8): "each at least 1",
    (3, -8, 8): "each at least 1",
    (32, 32, 3): r"channels first, got \(32, 32, 3\); give \(3, 32, 32\)",
    8: "in whole numbers, got 8",
}
BUILDERS = {name: models.build for name in models.TRAINED.names()} | {
    name: operators.build for name in operators.names()
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", models.TRAINED.names())
def test_a_model_takes_a_shape_or_refuses_it(name, shape):
    small = {key: value for key, value in SMALL_MODELS.get(name, {}).items() if key != "levels"}
    try:
        model = models.build(name, shape, **small)
    except FlowpriorError as refused:
        assert f"{shape[1]}x{shape[2]}" in str(refused) and ";" in str(refused)
        return
    if name in flows.names():
        x = uniform(2, *shape)
        model.initialise(x)
        torch.testing.assert_close(model.inverse(model(x)[0])[0], x, rtol=0, atol=1e-3)
    elif name in ("dcgan", "pggan"):
        assert model.decode(torch.zeros(2, *model.latent_shape)).shape == (2, *shape)
    elif name == "denoiser":
        assert model.denoise(uniform(2, *shape), 0.1).shape == (2, *shape)
    else:
        x = uniform(2, *shape)
        assert model(operators.build("identity", shape), x).shape == (2, *shape)


@pytest.mark.parametrize("shape", WRONG_SHAPES, ids=str)
@pytest.mark.parametrize("name", BUILDERS)
def test_what_is_no_shape_of_images_is_refused(name, shape):
    settings = {"measurements": 2} if name == "gaussian_sensing" else {}
    with pytest.raises(FlowpriorError, match=WRONG_SHAPES[shape]):
        BUILDERS[name](name, shape, **settings)


def test_shapes_of_lists_are_shapes():
    assert flows.build("glow", [3, 8, 8], levels=2, steps=1, hidden=2).shape == (3, 8, 8)
    assert operators.build("identity", [3, 8, 8]).A(uniform(1, 3, 8, 8)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("load", [flows.load, models.load])
def test_a_path_that_is_no_checkpoint_is_named(load, tmp_path):
    with pytest.raises(FlowpriorError, match="there is no such folder; train a model or name another"):
        load(tmp_path / "nowhere")
    save_model(tmp_path / "glow", small_flow("glow"))
    with pytest.raises(FlowpriorError, match=f"that is a file; name its folder, {tmp_path / 'glow'}"):
        load(tmp_path / "glow" / "weights.safetensors")


@pytest.mark.parametrize("edit", ["in place", "by data"])
def test_what_a_gaussian_derives_sees_every_edit_of_its_covariance(edit):
    prior, operator = fitted(), small_operator("identity")
    posterior = prior.observed(operator).posterior(NOISE)
    before = prior.spectrum.variances, prior.root, posterior.std
    assert posterior.std is before[2] and prior.root is before[1]
    (prior.covariance if edit == "in place" else prior.covariance.data).mul_(4)
    torch.testing.assert_close(prior.spectrum.variances, 4 * before[0])
    torch.testing.assert_close(prior.root, 2 * before[1])
    assert not torch.equal(posterior.std, before[2])


def test_bm3d_of_a_flat_or_a_grey_image_is_an_image():
    pytest.importorskip("bm3d")
    operator = small_operator("identity", (3, 16, 16))
    flat = torch.tensor([0.0, 0.5, 1.0])[:, None, None, None].expand(3, 3, 16, 16)
    found = solvers.solve("bm3d", operator, flat, noise_std=0.1)
    assert found.status == ("ok",) * 3
    torch.testing.assert_close(found.images, flat, rtol=0, atol=1e-3)
    grey = (0.5 + 0.1 * torch.randn(1, 1, 16, 16, generator=source())).expand(1, 3, 16, 16)
    found = solvers.solve("bm3d", operator, grey, noise_std=0.1)
    clean = found.images
    assert found.status == ("ok",) and float((clean - 0.5).std()) < 0.5 * float((grey - 0.5).std())
    torch.testing.assert_close(clean[:, :1].expand_as(clean), clean, rtol=0, atol=1e-5)


def test_a_batch_that_memory_did_not_hold_is_given_up_before_memory_is_emptied(monkeypatch):
    held, emptied = [], []

    class Batch:
        """What a batch has in memory."""

    def solve_in_little_memory(name, operator, y, prior, **given):
        batch = Batch()
        if len(y) > 2:
            held.append(weakref.ref(batch))
            raise torch.cuda.OutOfMemoryError
        return solvers.solve(name, operator, y, prior, **given)

    monkeypatch.setattr(sweep, "solve", solve_in_little_memory)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append([one() for one in held]))
    operator, y, given = asked("linear_mmse")
    points = [{"noise_std": NOISE}]
    parts = list(sweep.solve_points("linear_mmse", operator, y, given["prior"], points, keys=list("abcd"), batch=4))
    assert [len(part.result.images) for part in parts] == [2, 2]
    assert emptied == [[None]]
