"""Operators: linearity, adjointness, pseudo-inverse, noise."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pieces import OPERATOR_CASES, small_operator

from flowprior import operators
from flowprior.errors import FlowpriorError, UnknownNameError
from flowprior.images.quantise import targets
from flowprior.operators.measuring import measure_images
from flowprior.operators.task import TaskSettings

SHAPE = (3, 8, 6)


@pytest.fixture(params=OPERATOR_CASES, ids=str)
def case(request):
    """An operator and the shape of its images, at several settings."""
    name, shape, settings = request.param
    return operators.build(name, shape, **settings)


@pytest.fixture(params=operators.names())
def operator(request):
    return small_operator(request.param, SHAPE)


def images(count=2, shape=SHAPE):
    return torch.rand(count, *shape, dtype=torch.float64)


def measurements(operator, count=2):
    return torch.randn(count, *operator.measurement_shape, dtype=torch.float64)


def test_is_linear_and_has_the_stated_shape(case):
    x, other = images(shape=case.shape), images(shape=case.shape)
    assert case.A(x).shape == (2, *case.measurement_shape)
    assert case.pictures == (len(case.measurement_shape) == 3)
    torch.testing.assert_close(case.A(2 * x - other), 2 * case.A(x) - case.A(other))


def test_adjoint(case):
    x, y = images(shape=case.shape), measurements(case)
    assert case.A_adjoint(y).shape == x.shape
    left = (case.A(x) * y).flatten(1).sum(1)
    right = (x * case.A_adjoint(y)).flatten(1).sum(1)
    torch.testing.assert_close(left, right)


def test_dagger_is_the_pseudo_inverse_of_the_matrix(case):
    y = measurements(case)
    assert case.A_dagger(y).shape == (2, *case.shape)
    wanted = y.flatten(1) @ torch.linalg.pinv(case.matrix(), rtol=1e-8).T
    torch.testing.assert_close(case.A_dagger(y).flatten(1), wanted, rtol=1e-7, atol=1e-7)


def test_dagger_fulfils_the_four_conditions_of_penrose(case):
    forward = case.matrix()
    count = len(forward)
    basis = torch.eye(count, dtype=torch.float64).reshape(count, *case.measurement_shape)
    backward = case.A_dagger(basis).flatten(1).T
    close = {"rtol": 0, "atol": 1e-8 * float(1 + backward.abs().max())}
    torch.testing.assert_close(forward @ backward @ forward, forward, **close)
    torch.testing.assert_close(backward @ forward @ backward, backward, **close)
    torch.testing.assert_close((forward @ backward).T, forward @ backward, **close)
    torch.testing.assert_close((backward @ forward).T, backward @ forward, **close)


def test_matrix_is_the_operator(case):
    x = images(shape=case.shape)
    assert case.matrix(torch.float32).dtype == torch.float32
    torch.testing.assert_close(x.flatten(1) @ case.matrix().T, case.A(x).flatten(1))


def test_each_of_a_batch_is_treated_as_if_alone(case):
    x, y = images(3, case.shape).float(), measurements(case, 3).float()
    for apply, batch in ((case.A, x), (case.A_adjoint, y), (case.A_dagger, y)):
        alone = torch.cat([apply(batch[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(alone, apply(batch), rtol=1e-4, atol=1e-5 * float(1 + alone.abs().max()))
        assert apply(batch).dtype == torch.float32


def test_is_differentiable_as_the_linear_map_it_is(case):
    """The gradient of <v, A x> is the transpose's image of v, whatever x."""
    x, v = images(shape=case.shape).requires_grad_(), measurements(case)
    (gradient,) = torch.autograd.grad((case.A(x) * v).sum(), x)
    torch.testing.assert_close(gradient, case.A_adjoint(v).expand_as(gradient))
    y, w = measurements(case).requires_grad_(), images(shape=case.shape)
    assert torch.autograd.gradcheck(case.A_dagger, y.detach()[:1].requires_grad_(), atol=1e-4, rtol=1e-4)
    (back,) = torch.autograd.grad((case.A_adjoint(y) * w).sum(), y)
    torch.testing.assert_close(back, case.A(w).expand_as(back))


def test_another_process_measures_the_same():
    """Nothing of an operator depends on what a process did before."""
    program = (
        "import sys, torch; from flowprior import operators; from pieces import OPERATOR_CASES; torch.rand(7);"
        "print([operators.build(n, s, **o).A(torch.linspace(0, 1, s[0] * s[1] * s[2]).reshape(1, *s)).double().sum()"
        ".item() for n, s, o in OPERATOR_CASES])"
    )
    there = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, check=True)
    here = [
        operators.build(name, shape, **settings).A(torch.linspace(0, 1, math.prod(shape)).reshape(1, *shape))
        for name, shape, settings in OPERATOR_CASES
    ]
    assert json.loads(there.stdout) == pytest.approx([y.double().sum().item() for y in here], rel=1e-5)


def test_noise_has_its_standard_deviation_and_follows_the_generator(operator):
    x = torch.zeros(500, *SHAPE)
    first, second = (operator.measure(x, 0.3, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.std().item() == pytest.approx(0.3, rel=0.02)


def test_noise_without_a_source_is_refused(operator):
    with pytest.raises(FlowpriorError, match=r"noise_std is 0\.1, but no generator was given"):
        operator.measure(images(), 0.1)


def pixels_of(names):
    return np.stack(
        [np.random.default_rng(ord(name)).integers(0, 256, (*SHAPE[1:], SHAPE[0]), np.uint8) for name in names]
    )


def measured(operator, names, bits, seed=0, noise_std=0.1, as_image=False):
    task = TaskSettings(operator="identity", noise_std=noise_std, as_image=as_image)
    return measure_images(operator, pixels_of(names), names, task, bits, (seed, "set"), "task")


def test_noise_of_an_image_does_not_depend_on_the_others(operator):
    together = measured(operator, ("a", "b", "c"), bits=5)
    alone = measured(operator, ("c",), bits=5)
    torch.testing.assert_close(together[2:], alone, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(alone, measured(operator, ("c",), bits=5, seed=1))


def test_without_noise_the_target_is_what_is_measured(operator):
    y = measured(operator, ("a", "b"), bits=5, noise_std=0)
    wanted = operator.A(targets(pixels_of(("a", "b")), ("a", "b"), 5, (0, "set")))
    torch.testing.assert_close(y, wanted, rtol=1e-6, atol=1e-6)


def pictured(operator):
    if not operator.pictures:
        with pytest.raises(FlowpriorError, match=r"is no image; leave out as_image of task 'task'"):
            measured(operator, ("a",), bits=8, as_image=True)
        pytest.skip("its measurements are no images")


@pytest.mark.parametrize("bits", [5, 8])
def test_a_measurement_that_is_an_image_stays_in_range(operator, bits):
    pictured(operator)
    y = measured(operator, ("a", "b"), bits=bits, noise_std=1.0, as_image=True)
    assert y.min() >= 0 and y.max() <= 1


def test_a_measurement_that_is_an_image_falls_into_the_bin_of_the_noisy_picture(operator):
    pictured(operator)
    clipped = measured(operator, ("a", "b"), bits=8, as_image=True)
    quantised = measured(operator, ("a", "b"), bits=5, as_image=True)
    assert torch.equal((quantised * 32).floor(), (clipped * 255 / 8).floor())
    assert 0 < (quantised * 32 % 1).std() < 0.5


def test_mask_of_the_paper():
    lost = operators.build("center_mask", (3, 32, 32)).known(torch.ones(1)) == 0
    assert lost.sum() == 13 * 13
    assert bool(lost[9:22, 9:22].all())


def test_blur_is_the_mean_of_nine():
    x = torch.rand(1, 3, 8, 6)
    wanted = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=True)
    torch.testing.assert_close(operators.build("box_blur", SHAPE, size=3).A(x), wanted)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("box_blur", {"size": 4}, "size must be odd, got 4"),
        ("box_blur", {"sise": 3}, "unknown setting 'sise'; did you mean 'size'"),
        ("gaussian_blur", {"size": 4}, "size must be odd, got 4"),
        (
            "gaussian_blur",
            {"std": 5.0, "border": "valid"},
            "31 pixels lies nowhere inside an image of 8x6; take border",
        ),
        ("gaussian_sensing", {"measurements": 145}, r"at most the 144 values of an image \(3, 8, 6\), got 145"),
        ("gaussian_sensing", {"measurements": 0}, "measurements: .* greater than or equal to 1, got 0"),
        ("gaussian_sensing", {}, "measurements: Field required"),
        ("box_blur", {"size": 7, "border": "valid"}, "at most the shorter side 6 of the image .* got 7; use a smaller"),
        ("block_mean", {"factor": 4}, "factor must divide the sides of the image 8x6, got 4; use one that does"),
        ("center_mask", {"start": 0.8}, "start must not exceed stop, got start 0.8 and stop 0.7"),
    ],
)
def test_bad_settings(name, settings, message):
    with pytest.raises(FlowpriorError, match=message):
        operators.build(name, SHAPE, **settings)


def test_sensing_is_normalised_and_follows_its_seed_row_by_row():
    shape, many = (3, 16, 16), 700
    matrix = operators.build("gaussian_sensing", shape, measurements=many).matrix() * many**0.5
    assert matrix.mean().abs() < 0.005
    assert matrix.std().item() == pytest.approx(1, abs=0.005)
    # Rows are drawn in blocks, of which none enters: fewer are the first of many.
    few = operators.build("gaussian_sensing", shape, measurements=513).matrix() * 513**0.5
    torch.testing.assert_close(few, matrix[:513], rtol=1e-6, atol=1e-6)
    other = operators.build("gaussian_sensing", shape, measurements=many, seed=1).matrix() * many**0.5
    assert (other * matrix).mean().abs() < 0.01


@pytest.mark.parametrize("count", [700, 768])
def test_sensing_larger_than_a_block_has_its_pseudo_inverse(count):
    sensing = operators.build("gaussian_sensing", (3, 16, 16), measurements=count)
    y = torch.randn(2, count, dtype=torch.float64)
    wanted = y @ torch.linalg.pinv(sensing.matrix()).T
    torch.testing.assert_close(sensing.A_dagger(y).flatten(1), wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sensing.A(sensing.A_dagger(y.float())), y.float(), rtol=0, atol=1e-2)


def test_sensing_draws_and_factors_its_matrix_once(monkeypatch):
    sensing = operators.build("gaussian_sensing", SHAPE, measurements=20)
    y = sensing.A(torch.rand(1, *SHAPE))
    first = sensing.A_dagger(y)
    monkeypatch.setattr("flowprior.operators.gaussian_sensing.keyed_rows", None)
    monkeypatch.setattr("torch.linalg.cholesky_ex", None)
    assert torch.equal(sensing.A_dagger(sensing.A(torch.rand(0, *SHAPE))), first[:0])
    assert torch.equal(sensing.A_dagger(y), first)


def test_unknown_operator_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'box_blur'"):
        operators.build("boxblur", SHAPE)


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.6, 1.0])
def test_a_random_mask_loses_the_share_that_is_asked_for_and_of_a_larger_one_the_same(missing):
    def lost(share, seed=0):
        return operators.build("random_mask", (3, 20, 15), missing=share, seed=seed).known(torch.ones(1)) == 0

    assert int(lost(missing).sum()) == round(missing * 300)
    assert bool((lost(missing) <= lost(min(1.0, missing + 0.2))).all())
    if 0 < missing < 1:
        assert not torch.equal(lost(missing), lost(missing, seed=1))


def test_the_center_mask_of_asim2020_is_19_pixels_wide():
    known = operators.build("center_mask", (3, 64, 64), start=0.35, stop=0.65).known(torch.ones(1))
    rows = (known == 0).any(1).nonzero()[:, 0]
    assert (rows[0], rows[-1], int((known == 0).sum())) == (22, 40, 361)


@pytest.mark.parametrize(("side", "first", "last"), [(64, 21, 41), (32, 10, 20)])
def test_the_center_mask_of_oberlin2021_is_a_third_of_the_side(side, first, last):
    known = operators.build("center_mask", (3, side, side), start=0.3334, stop=0.6667).known(torch.ones(1))
    for axis in (0, 1):
        lost = (known == 0).any(axis).nonzero()[:, 0]
        assert (lost[0], lost[-1]) == (first, last)
    assert int((known == 0).sum()) == (last - first + 1) ** 2


def test_block_means_are_a_strided_pool_and_a_blur_that_is_valid_has_no_border():
    x = torch.rand(2, 3, 8, 12)
    found = operators.build("block_mean", (3, 8, 12), factor=4).A(x)
    torch.testing.assert_close(found, torch.nn.functional.avg_pool2d(x, 4))
    valid = operators.build("box_blur", (3, 8, 12), size=5, border="valid")
    torch.testing.assert_close(valid.A(x), torch.nn.functional.avg_pool2d(x, 5, stride=1))
    # Where both see a whole neighbourhood they see the same.
    padded = operators.build("box_blur", (3, 8, 12), size=5).A(x)
    torch.testing.assert_close(valid.A(x), padded[..., 2:-2, 2:-2])


@pytest.mark.parametrize("name", ["gaussian_sensing", "dct_sensing"])
def test_sensing_keeps_lengths_in_the_mean(name):
    x = torch.rand(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    many = [operators.build(name, (3, 8, 8), measurements=24, seed=seed).A(x).square().sum() for seed in range(300)]
    ratio = torch.stack(many) / x.square().sum()
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / math.sqrt(300) < 0.1


def test_a_matrix_in_bfloat16_is_one_matrix_whatever_it_is_multiplied_with():
    sensing = operators.build("gaussian_sensing", (3, 8, 8), measurements=30, storage="bfloat16")
    whole = operators.build("gaussian_sensing", (3, 8, 8), measurements=30)
    assert 0 < float((sensing.matrix() - whole.matrix()).abs().max()) < 0.004 * float(whole.matrix().abs().max())
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(sensing.A(x), (x.flatten(1).double() @ sensing.matrix().T).float(), rtol=1e-5, atol=1e-5)


def test_noise_of_a_given_length_is_spread_over_the_measurement():
    task = TaskSettings(operator="gaussian_sensing", noise_norm=0.1)
    sensing = operators.build("gaussian_sensing", (3, 8, 8), measurements=150)
    pixels = np.full((40, 8, 8, 3), 128, np.uint8)
    y = measure_images(sensing, pixels, [str(i) for i in range(40)], task, 8, (0, "grey"), "cs")
    lengths = (y - sensing.A(torch.full((1, 3, 8, 8), 128 / 255))).norm(dim=1)
    assert abs(float(lengths.mean()) - 0.1) < 0.005
    with pytest.raises(ValueError, match="two sizes of one noise"):
        TaskSettings(operator="identity", noise_std=0.1, noise_norm=0.1)


@pytest.mark.parametrize(("border", "padding"), [("zeros", "constant"), ("reflect", "reflect"), ("valid", None)])
def test_the_gaussian_blur_is_the_convolution_with_its_kernel(border, padding):
    """By convolution in the plane: a kernel of one sum that falls by exp(-1/2) at each standard deviation."""
    blur = operators.build("gaussian_blur", (3, 20, 17), std=2.0, border=border)
    place = torch.arange(-6, 7, dtype=torch.float64)
    kernel = torch.exp(-(place[:, None] ** 2 + place**2) / 8)
    x = images(shape=(3, 20, 17))
    padded = torch.nn.functional.pad(x, (6, 6, 6, 6), mode=padding) if padding else x
    wanted = torch.nn.functional.conv2d(padded.flatten(0, 1)[:, None], (kernel / kernel.sum())[None, None])
    torch.testing.assert_close(blur.A(x).flatten(0, 1), wanted[:, 0])
    torch.testing.assert_close(
        operators.build("gaussian_blur", (3, 20, 17), std=2.0, size=13, border=border).A(x), blur.A(x)
    )


@pytest.mark.parametrize("border", ["reflect", "valid"])
def test_the_gaussian_blur_keeps_what_is_uniform(border):
    """Whatever the kernel: wider than the image too, where the border mirrors it."""
    side = 64 if border == "valid" else 20
    blur = operators.build("gaussian_blur", (1, side, side), std=8.0, border=border)
    torch.testing.assert_close(blur.A(torch.ones(1, 1, side, side)), torch.ones(1, *blur.measurement_shape))


@pytest.mark.parametrize("std", [5.0, 8.0])
@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("border", ["zeros", "reflect"])
def test_a_wide_gaussian_blur_is_inverted_in_float32_as_in_float64(std, side, border):
    """What float32 rounds away of a measurement must not come back as a picture."""
    blur = operators.build("gaussian_blur", (1, side, side), std=std, border=border)
    x = torch.rand(4, 1, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    wanted = blur.A_dagger(blur.A(x))
    found = blur.A_dagger(blur.A(x.float()))
    assert float((found - wanted).square().mean().sqrt()) < 0.01
    torch.testing.assert_close(blur.A(found), blur.A(x.float()), rtol=0, atol=1e-4)
