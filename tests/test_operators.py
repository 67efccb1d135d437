"""Operators: linearity, adjointness, pseudo-inverse, noise."""

import numpy as np
import pytest
import torch
from pieces import small_operator

from flowprior import operators
from flowprior.errors import FlowpriorError, UnknownNameError
from flowprior.images.quantise import targets
from flowprior.operators.measuring import measure_images
from flowprior.operators.task import TaskSettings

SHAPE = (3, 8, 6)


@pytest.fixture(params=operators.names())
def operator(request):
    return small_operator(request.param, SHAPE)


def images(count=2):
    return torch.rand(count, *SHAPE, dtype=torch.float64)


def test_is_linear_and_has_the_stated_shape(operator):
    x, other = images(), images()
    assert operator.A(x).shape == (2, *operator.measurement_shape)
    torch.testing.assert_close(operator.A(2 * x - other), 2 * operator.A(x) - operator.A(other))


def test_adjoint(operator):
    x, y = images(), torch.randn(2, *operator.measurement_shape, dtype=torch.float64)
    left = (operator.A(x) * y).flatten(1).sum(1)
    right = (x * operator.A_adjoint(y)).flatten(1).sum(1)
    torch.testing.assert_close(left, right)


def test_dagger_is_the_pseudo_inverse_of_the_matrix(operator):
    y = torch.randn(2, *operator.measurement_shape, dtype=torch.float64)
    wanted = y.flatten(1) @ torch.linalg.pinv(operator.matrix(), rtol=1e-8).T
    torch.testing.assert_close(operator.A_dagger(y).flatten(1), wanted, rtol=1e-7, atol=1e-7)


def test_matrix_is_the_operator(operator):
    x = images()
    torch.testing.assert_close(x.flatten(1) @ operator.matrix().T, operator.A(x).flatten(1))


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
    assert torch.equal(together[2:], alone)
    assert not torch.equal(alone, measured(operator, ("c",), bits=5, seed=1))


def test_without_noise_the_target_is_what_is_measured(operator):
    y = measured(operator, ("a", "b"), bits=5, noise_std=0)
    assert torch.equal(y, operator.A(targets(pixels_of(("a", "b")), ("a", "b"), 5, (0, "set"))))


@pytest.mark.parametrize("bits", [5, 8])
def test_a_measurement_that_is_an_image_stays_in_range(operator, bits):
    y = measured(operator, ("a", "b"), bits=bits, noise_std=1.0, as_image=True)
    assert y.min() >= 0 and y.max() <= 1


def test_a_measurement_that_is_an_image_falls_into_the_bin_of_the_noisy_picture(operator):
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
        ("center_mask", {"start": 0.8}, "start must not exceed stop, got start 0.8 and stop 0.7"),
    ],
)
def test_bad_settings(name, settings, message):
    with pytest.raises(FlowpriorError, match=message):
        operators.build(name, SHAPE, **settings)


def test_unknown_operator_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'box_blur'"):
        operators.build("boxblur", SHAPE)
