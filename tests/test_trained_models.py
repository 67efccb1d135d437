"""Every model that is trained: it resumes bit by bit, its score improves, its checkpoint is what it was."""

import json

import numpy as np
import pytest
import torch
from pieces import MODEL_SIDES, pictures, small_model

from flowprior import models, operators
from flowprior.errors import FlowpriorError
from flowprior.experiment.learning import TrainingJob, learn, learn_together
from flowprior.experiment.parts import PriorSettings
from flowprior.models import flows
from flowprior.models.capabilities import Decodes
from flowprior.models.checkpoint import load_model, save_model
from flowprior.operators.task import TaskSettings
from flowprior.training.batches import held_out_parts
from flowprior.training.loop import train
from flowprior.training.quality import sample_quality
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import Task, trainable_of

SETTINGS = TrainingSettings(steps=12, batch=8, validate_every=4, warmup=2, learning_rate=1e-3)
KEY = (0, "test")
NAMES = models.TRAINED.names()


class KilledError(Exception):
    pass


class Watcher:
    """Stops a run at a step, or never."""

    def __init__(self, at=None):
        self.at, self.resumed, self.facts = at, [], {}

    def resume(self, done):
        self.resumed.append(done)

    def update(self, done, **facts):
        self.facts = facts
        if done == self.at:
            raise KilledError


def task_of(name):
    if not PriorSettings(model=name).for_one_task:
        return None
    side = MODEL_SIDES.get(name, 8)

    return Task(
        "denoising",
        operators.build("identity", (3, side, side)),
        TaskSettings(operator="identity", noise_std=0.1),
    )


def run(name, settings=SETTINGS, folder=None, **more):
    side = MODEL_SIDES.get(name, 8)
    data = pictures(40, 0, side), pictures(16, 1, side)
    return train(small_model(name), *data, 8, settings, KEY, folder, task=task_of(name), **more)


def same_weights(left, right):
    return all(torch.equal(a, b) for a, b in zip(left.state_dict().values(), right.state_dict().values(), strict=True))


def scores(trained):
    return [record[f"validation_{trained.score_name}"] for record in trained.history]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_killed_and_resumed_is_bit_identical(name, workers, tmp_path):
    alone = run(name, workers=workers)
    with pytest.raises(KilledError):
        run(name, folder=tmp_path, workers=workers, progress=Watcher(at=10))
    watcher = Watcher()
    resumed = run(name, folder=tmp_path, workers=workers, progress=watcher)
    assert watcher.resumed == [8] and watcher.facts
    assert same_weights(alone.model, resumed.model)
    times = ("seconds", "images_per_second")
    for left, right in zip(alone.history, resumed.history, strict=True):
        assert {k: v for k, v in left.items() if k not in times} == {k: v for k, v in right.items() if k not in times}


@pytest.mark.parametrize("name", NAMES)
def test_training_improves_the_score(name):
    settings = TrainingSettings(
        steps=120, batch=16, validate_every=20, warmup=5, learning_rate=5e-3, ema=0.8, beta1=0.5
    )
    trained = run(name, settings)
    better = min if trainable_of(small_model(name), SETTINGS, 8, task_of(name)).lower_is_better else max
    assert trained.score == better(scores(trained))
    first = run(name, settings.model_copy(update={"steps": 1, "learning_rate": 1e-9}))
    assert better(first.score, trained.score) == trained.score != first.score


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_has_the_best_score(name):
    """Asked again, the weights that are kept have the score that training says."""
    trained, side = run(name), MODEL_SIDES.get(name, 8)
    trainable = trainable_of(trained.model, SETTINGS, 8, task_of(name))
    (examples,) = held_out_parts(pictures(16, 1, side), 64, trainable, KEY)
    with torch.no_grad():
        values = trainable.scorer(trained.model, (*KEY, "validation"))(examples)
    assert values.shape == (16,)
    assert float(trainable.score_of(values.double().mean())) == pytest.approx(trained.score, rel=1e-5)


@pytest.mark.parametrize("name", ["dcgan", "haar_glow"])
def test_the_quality_of_samples_is_one_number_for_every_model(name):
    side = MODEL_SIDES.get(name, 8)
    trained, pixels = run(name), pictures(16, 1, side)
    found = sample_quality(trained.model, trainable_of(trained.model, SETTINGS, 8), pixels, KEY)
    assert np.isfinite(found)
    if name == "dcgan":
        assert found == pytest.approx(trained.score, rel=1e-5)
    with torch.no_grad():
        for parameter in trained.model.parameters():
            parameter.fill_(torch.nan)
    assert np.isnan(sample_quality(trained.model, trainable_of(trained.model, SETTINGS, 8), pixels, KEY))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in flows.names()])
def test_two_processes_train_one_model(name, tmp_path):
    side = MODEL_SIDES.get(name, 8)
    np.save(tmp_path / "images.npy", pictures(40, 0, side))
    np.save(tmp_path / "validation.npy", pictures(16, 1, side))
    task = {"task": {"operator": "identity", "noise_std": 0.1}, "task_name": "denoising"} if task_of(name) else {}
    prior = {"model": name, "settings": small_model(name).settings.model_dump(), "training": SETTINGS.model_dump()}
    places = {"images": "images.npy", "validation": "validation.npy", "folder": "two", "state": "two-state"}
    places = {key: str(tmp_path / place) for key, place in places.items()}
    learn_together(TrainingJob(**places, prior=prior, bits=8, seed=3, threads=2, **task), 2)
    assert load_model(tmp_path / "two").name == name
    history = [json.loads(line) for line in (tmp_path / "two" / "history.jsonl").read_text().splitlines()]
    assert [record["step"] for record in history] == [4, 8, 12]
    assert all(np.isfinite(value) for record in history for value in record.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_leaves_a_checkpoint_and_pictures(name, tmp_path):
    side = MODEL_SIDES.get(name, 8)
    np.save(tmp_path / "images.npy", pictures(40, 0, side))
    np.save(tmp_path / "validation.npy", pictures(16, 1, side))
    task = {"task": {"operator": "identity", "noise_std": 0.1}, "task_name": "denoising"} if task_of(name) else {}
    prior = {"model": name, "settings": small_model(name).settings.model_dump(), "training": SETTINGS.model_dump()}
    places = {"images": "images.npy", "validation": "validation.npy", "folder": "made", "state": "state"}
    places = {key: str(tmp_path / place) for key, place in places.items()}
    learn(TrainingJob(**places, prior=prior, bits=8, seed=3, threads=1, **task))
    made = tmp_path / "made"
    files = {"weights.safetensors", "config.json", "history.jsonl", "samples.npy", "samples.png"}
    files |= {"moments.npz"} if name in flows.names() else set()
    assert {path.name for path in made.iterdir()} == files
    assert not (tmp_path / "state").exists()
    config = json.loads((made / "config.json").read_text())
    assert config["flow" if name in flows.names() else "model"] == name
    # Flows and generators stand beside each other.
    assert ("energy_score" in config) == isinstance(small_model(name), Decodes)
    assert np.load(made / "samples.npy").shape[2:] == (side, side, 3)


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint_round_trip(name, tmp_path):
    model = small_model(name)
    save_model(tmp_path, model, {"bits": 8})
    again = load_model(tmp_path)
    assert type(again) is type(model) and again.shape == model.shape and again.settings == model.settings
    assert same_weights(again, model) and not again.training
    if name not in flows.names():
        with pytest.raises(FlowpriorError, match=f"holds the model '{name}', which is no flow"):
            flows.load(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_stays_close_to_float32(name):
    low, full = run(name, SETTINGS.model_copy(update={"precision": "bf16"})), run(name)
    assert not same_weights(low.model, full.model)
    assert low.score == pytest.approx(full.score, rel=0.05)


def test_a_model_without_a_training_says_so():
    with pytest.raises(FlowpriorError, match="Linear is not trained"):
        trainable_of(torch.nn.Linear(1, 1), SETTINGS, 8)
