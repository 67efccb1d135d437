"""The network that is trained for one task: what it sees, what it learns, and its answer as a solver's."""

import numpy as np
import pytest
import torch
from pieces import OPERATOR_SETTINGS, pictures, shaken, small_model, small_operator

from flowprior import models, operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.evaluation import psnr
from flowprior.images.quantise import targets
from flowprior.models.capabilities import Decodes, Density, Solves
from flowprior.operators.measuring import measure_images
from flowprior.operators.task import TaskSettings
from flowprior.training.batches import Batches, channels_first
from flowprior.training.loop import train
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import Task, trainable_of

SETTINGS = TrainingSettings(steps=200, batch=16, validate_every=50, warmup=10, learning_rate=3e-3, ema=0.9)


def task_of(operator="identity", noise_std=0.1, **more):
    return Task("t", small_operator(operator), TaskSettings(operator=operator, noise_std=noise_std, **more))


def trained(task, settings=SETTINGS, **more):
    data = pictures(200), pictures(16, 1)
    return train(small_model("regressor", width=8), *data, 8, settings, (0, "test"), task=task, **more)


def test_it_is_no_prior():
    model = small_model("regressor")
    assert isinstance(model, Solves) and not isinstance(model, Decodes) and not isinstance(model, Density)


def test_its_size_is_a_third_of_a_million():
    model = models.build("regressor", (3, 32, 32))
    assert 0.25e6 < sum(parameter.numel() for parameter in model.parameters()) < 0.35e6


@pytest.mark.parametrize("operator", operators.names())
def test_untrained_it_is_the_pseudo_inverse(operator):
    model, problem = small_model("regressor"), small_operator(operator)
    y = problem.A(torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(model.solve(problem, y), problem.A_dagger(y).clamp(0, 1))


@pytest.mark.parametrize("shape", [(3, 8, 12), (1, 4, 4), (1, 36, 20)])
@pytest.mark.parametrize("operator", operators.names())
def test_any_size_and_any_measurement(operator, shape):
    model = shaken(models.build("regressor", shape, width=4))
    problem = small_operator(operator, shape)
    y = problem.A(torch.rand(4, *shape, generator=torch.Generator().manual_seed(1)))
    whole = solvers.solve("regressor", problem, y, prior=model)
    assert whole.images.shape == (4, *shape) and whole.passes.tolist() == [1.0] * 4
    alone = solvers.solve("regressor", problem, y[2:3], prior=model)
    torch.testing.assert_close(alone.images, whole.images[2:3], atol=1e-5, rtol=0)


def test_a_size_that_can_not_be_halved():
    with pytest.raises(FlowpriorError, match="with 2 levels needs height and width divisible by 4, got 10x8"):
        models.build("regressor", (3, 10, 8))


@pytest.mark.parametrize(
    "task",
    [
        task_of("identity", 0.1, as_image=True),
        task_of("box_blur", 0.0),
        task_of("center_mask", 0.02),
        task_of("gaussian_sensing", 0.02, settings=OPERATOR_SETTINGS["gaussian_sensing"][0]),
    ],
    ids=lambda task: task.settings.operator,
)
def test_it_learns_the_task(task):
    found = trained(task)
    assert found.score_name == "psnr" and found.score == max(r["validation_psnr"] for r in found.history)
    data = pictures(32, 2)
    names = [str(i) for i in range(32)]
    truth = targets(data, names, 8, (7,))
    y = measure_images(task.operator, data, names, task.settings, 8, (7,), "t")
    ours = psnr(solvers.solve("regressor", task.operator, y, prior=found.model).images, truth).mean()
    assert ours > psnr(task.operator.A_dagger(y).clamp(0, 1), truth).mean() + 1
    # What training says of other images holds for these.
    assert float(ours) == pytest.approx(found.score, abs=1.5)


@pytest.mark.parametrize("bits", [5, 8])
@pytest.mark.parametrize("as_image", [False, True])
def test_it_learns_from_measurements_as_they_are_made(bits, as_image):
    """Same targets, same noise level, same depth as the experiment's; noise of its own for each image and step."""
    task = task_of("identity", 0.1, as_image=as_image)
    trainable = trainable_of(small_model("regressor"), SETTINGS.model_copy(update={"batch": 40}), bits, task)
    batches = Batches(np.full((40, 8, 8, 3), 100, np.uint8), trainable, (0, "test"))
    y, images = batches.at(0)
    noise = y - images
    assert float(noise.std()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(batches.at(0)[0], y) and not torch.equal(batches.at(1)[0], y)
    assert not torch.equal(noise[0], noise[1])
    if bits == 8:
        assert torch.equal(images, torch.full_like(images, 100) / 255)
    else:
        assert images.min() >= 12 / 32 and images.max() < 13 / 32
    if as_image:
        assert y.min() >= 0 and y.max() <= 1


def test_another_task_is_another_training(tmp_path):
    class Watcher:
        resumed = ()

        def resume(self, done):
            self.resumed = (done,)

        def update(self, done, **facts):
            pass

    settings = SETTINGS.model_copy(update={"steps": 4, "validate_every": 2})
    trained(task_of(noise_std=0.1), settings, state_folder=tmp_path)
    for task, resumed in ((task_of(noise_std=0.1), (4,)), (task_of(noise_std=0.2), ()), (task_of("box_blur"), ())):
        watcher = Watcher()
        trained(task, settings, state_folder=tmp_path, progress=watcher)
        assert watcher.resumed == resumed


def test_a_measurement_that_is_no_number_is_a_status():
    model, problem = shaken(small_model("regressor")), small_operator("identity")
    y = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    good = solvers.solve("regressor", problem, y, prior=model).images
    y[1, 0, 0, 0] = float("nan")
    found = solvers.solve("regressor", problem, y, prior=model)
    assert found.status == ("ok", "diverged", "ok") and bool(torch.isfinite(found.images).all())
    torch.testing.assert_close(found.images[[0, 2]], good[[0, 2]])


def test_what_it_is_not_told():
    model = small_model("regressor")
    with pytest.raises(FlowpriorError, match="is trained for one task, got none"):
        trainable_of(model, SETTINGS, 8)
    noisy = SETTINGS.model_copy(update={"noise_std": 0.01})
    with pytest.raises(FlowpriorError, match=r"smooths a density, and model 'regressor' has none, got 0\.01"):
        trainable_of(model, noisy, 8, task_of())


def test_the_grid_shows_target_measurement_and_answer():
    model, task = small_model("regressor"), task_of(noise_std=0.0)
    grid = trainable_of(model, SETTINGS, 8, task).grid(model, pictures(20), 0)
    assert grid.rows.shape == (3, 16, 8, 8, 3)
    # Nothing was degraded, and a fresh model leaves it so.
    assert (grid.rows == channels_first(pictures(20)).permute(0, 2, 3, 1).numpy()[:16]).all()
