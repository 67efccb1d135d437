"""Training: it learns, it resumes bit by bit, its batches follow from identity, its checkpoints are checked."""

import json

import numpy as np
import pytest
import torch
from pieces import SMALL_FLOWS, small_flow
from pieces import pictures as pixels

from flowprior.errors import FlowpriorError
from flowprior.experiment.learning import TrainingJob, learn_together
from flowprior.models import flows
from flowprior.models.flows.base import bits_per_dim
from flowprior.models.flows.checkpoint import load_flow, save_flow
from flowprior.models.flows.evaluators import compiled
from flowprior.models.flows.learning import ByKernel, ByTorch, likelihood_of
from flowprior.training.batches import Batches
from flowprior.training.grids import TEMPERATURES, sample_rows
from flowprior.training.loop import learning_rate, train
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import trainable_of

SETTINGS = TrainingSettings(steps=12, batch=8, validate_every=4, warmup=2)
KEY = (0, "test")


def fresh(name="haar_glow"):
    torch.manual_seed(7)
    return flows.build(name, (3, 8, 8), **SMALL_FLOWS.get(name, {}))


def run(settings=SETTINGS, folder=None, workers=1, name="haar_glow", **more):
    return train(fresh(name), pixels(), pixels(16, 1), 8, settings, KEY, folder, workers=workers, **more)


class Watcher:
    def __init__(self):
        self.resumed = []

    def resume(self, done):
        self.resumed.append(done)

    def update(self, done, **facts):
        pass


def same_weights(left, right):
    return all(torch.equal(a, b) for a, b in zip(left.state_dict().values(), right.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", flows.names())
def test_training_learns(name):
    settings = TrainingSettings(steps=60, batch=16, validate_every=20, warmup=5, learning_rate=1e-2, ema=0.8)
    trained = run(settings, name=name)
    untrained = fresh(name)
    images = torch.from_numpy(pixels(16, 1)).permute(0, 3, 1, 2).add(0.5) / 256
    untrained.initialise(images)
    before = bits_per_dim(untrained.log_prob(images).mean(), untrained.dimensions).item()
    assert trained.history[-1]["validation_bits_per_dim"] < before - 0.1
    assert trained.score == min(entry["validation_bits_per_dim"] for entry in trained.history)


@pytest.fixture(params=["kernel", "torch"])
def path(request, monkeypatch):
    """Both ways to a gradient: where there is no compiler, torch's layers are the only one."""
    if request.param == "kernel" and compiled.kernel() is None:
        pytest.skip("no C compiler on this machine")
    take(request.param, monkeypatch)
    return request.param


def take(path, monkeypatch):
    """Train by the kernel, small as these maps are, or by torch."""
    if path == "torch":
        monkeypatch.setattr("flowprior.models.flows.evaluators.by_kernel.kernel", lambda: None)
    else:
        monkeypatch.setattr("flowprior.models.flows.learning.LEAST_PIXELS", 0)
    assert isinstance(likelihood_of(fresh(), SETTINGS), {"torch": ByTorch, "kernel": ByKernel}[path])


@pytest.mark.skipif(compiled.kernel() is None, reason="no C compiler on this machine")
def test_kernel_and_torch_learn_the_same(monkeypatch):
    settings = SETTINGS.model_copy(update={"clip_norm": None, "clip_value": None})
    take("kernel", monkeypatch)
    quick = run(settings)
    take("torch", monkeypatch)
    plain = run(settings)
    for left, right in zip(quick.history, plain.history, strict=True):
        for name in ("loss_bits_per_dim", "validation_bits_per_dim"):
            assert left[name] == pytest.approx(right[name], abs=2e-3)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_resumed_is_bit_identical(tmp_path, workers, path):
    alone = run(workers=workers)

    class KilledError(Exception):
        pass

    class Killer(Watcher):
        def update(self, done, **facts):
            if done == 10:
                raise KilledError

    with pytest.raises(KilledError):
        run(folder=tmp_path, workers=workers, progress=Killer())
    watcher = Watcher()
    resumed = run(folder=tmp_path, workers=workers, progress=watcher)
    assert watcher.resumed == [8]
    assert same_weights(alone.model, resumed.model)
    assert [r["validation_bits_per_dim"] for r in alone.history] == [
        r["validation_bits_per_dim"] for r in resumed.history
    ]


def test_state_of_another_run_is_not_resumed(tmp_path):
    run(folder=tmp_path)
    watcher = Watcher()
    run(SETTINGS.model_copy(update={"learning_rate": 1e-3}), tmp_path, progress=watcher)
    assert watcher.resumed == []


def test_state_of_a_run_on_other_images_is_not_resumed(tmp_path):
    run(folder=tmp_path)
    watcher = Watcher()
    train(fresh(), pixels(seed=5), pixels(16, 1), 8, SETTINGS, KEY, tmp_path, watcher)
    assert watcher.resumed == []


@pytest.mark.parametrize("name", flows.names())
def test_workers_share_a_batch_without_changing_it(name, path):
    settings = SETTINGS.model_copy(update={"learning_rate": 1e-2, "ema": 0.0})
    one, two = run(settings, name=name), run(settings, name=name, workers=2)
    for left, right in zip(one.model.parameters(), two.model.parameters(), strict=True):
        # Adam turns the sign of a vanishing gradient into a whole step, hence the share of equal values.
        assert ((left - right).abs() < 1e-3).float().mean() > 0.97


def test_gradients_lie_in_memory_as_their_parameters(path):
    """Fused Adam walks raw memory: a transposed parameter with a contiguous gradient would be updated wrongly."""
    flow = fresh()
    for parameter in flow.parameters():
        if parameter.ndim == 2:
            parameter.data = parameter.data.T.contiguous().T
    args = (pixels(), pixels(16, 1), 8, SETTINGS, KEY)
    for left, right in zip(train(flow, *args).model.parameters(), run().model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-5)


def test_early_stop_keeps_the_best():
    settings = TrainingSettings(
        steps=400,
        batch=8,
        validate_every=4,
        warmup=0,
        learning_rate=0.05,
        schedule="constant",
        patience=2,
        ema=0.0,
    )
    trained = run(settings)
    assert trained.steps < 400
    values = [entry["validation_bits_per_dim"] for entry in trained.history]
    assert trained.score == min(values) < values[-1]


def test_bf16_stays_close_to_float32():
    low, full = run(SETTINGS.model_copy(update={"precision": "bf16"})), run()
    assert low.score == pytest.approx(full.score, abs=0.02)


def test_non_finite_gradient_is_an_error_with_a_remedy(path):
    with pytest.raises(FlowpriorError, match=r"lower training\.learning_rate \(now 1e\+30\)"):
        run(TrainingSettings(steps=20, batch=8, warmup=0, learning_rate=1e30, clip_norm=None))


def test_batches_follow_from_the_step_alone():
    settings = SETTINGS.model_copy(update={"noise_std": 0.01})
    trainable = trainable_of(fresh(), settings, 8)
    first = Batches(pixels(), trainable, KEY)
    walked = [first.at(step)[0] for step in range(12)]
    assert torch.equal(Batches(pixels(), trainable, KEY).at(11)[0], walked[11])
    assert not torch.equal(Batches(pixels(), trainable, (1, "test")).at(11)[0], walked[11])


def test_an_epoch_sees_every_image_once():
    numbered = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, 3) * 8
    trainable = trainable_of(fresh(), SETTINGS.model_copy(update={"batch": 5, "flips": False}), 5)
    batches = Batches(numbered, trainable, KEY)
    seen = torch.cat([batches.at(0)[0], batches.at(1)[0]])[:, 0, 0, 0]
    assert sorted(int(v * 32) for v in seen) == list(range(10))


def test_learning_rate_warms_up_and_decays_to_zero():
    settings = TrainingSettings(steps=100, warmup=10, learning_rate=1.0)
    assert learning_rate(settings, 0) == pytest.approx(0.1)
    assert learning_rate(settings, 10) == pytest.approx(1.0)
    assert learning_rate(settings, 55) == pytest.approx(0.5)
    assert learning_rate(settings, 100) == pytest.approx(0.0)
    assert learning_rate(settings.model_copy(update={"schedule": "constant"}), 99) == 1.0


@pytest.mark.parametrize("name", flows.names())
def test_checkpoint_round_trip(tmp_path, name):
    flow = small_flow(name, dtype=torch.float32)
    save_flow(tmp_path, flow, {"bits": 8})
    again = load_flow(tmp_path)
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(again.log_prob(x), flow.log_prob(x))
    assert json.loads((tmp_path / "config.json").read_text())["bits"] == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "weights.safetensors"]


def test_checkpoint_of_another_architecture(tmp_path):
    save_flow(tmp_path, small_flow("haar_glow", dtype=torch.float32))
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"]["hidden"] = 7
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FlowpriorError, match="is of another architecture"):
        load_flow(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no checkpoint in"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not a model's description"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "no weights in"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"short"), "is damaged"),
    ],
)
def test_damaged_checkpoint(tmp_path, damage, message):
    save_flow(tmp_path, small_flow("glow", dtype=torch.float32))
    damage(tmp_path)
    with pytest.raises(FlowpriorError, match=message):
        load_flow(tmp_path)


def test_sample_rows_cover_the_temperatures():
    rows = sample_rows(small_flow("haar_glow", dtype=torch.float32), seed=0)
    assert rows.shape == (len(TEMPERATURES), 16, 8, 8, 3)
    assert TEMPERATURES[0] == 0.0 and TEMPERATURES[-1] == 1.2
    assert (rows[0] == rows[0, :1]).all()


def lesson(tmp_path, name, **changes):
    np.save(tmp_path / "images.npy", pixels())
    np.save(tmp_path / "validation.npy", pixels(16, 1))
    prior = {"flow": "haar_glow", "settings": SMALL_FLOWS["haar_glow"], "training": SETTINGS.model_dump()}
    facts = {"prior": prior, "bits": 8, "seed": 3, "threads": 2, **changes}
    places = {"images": "images.npy", "validation": "validation.npy", "folder": name, "state": f"{name}-state"}
    return TrainingJob(**{key: str(tmp_path / place) for key, place in places.items()}, **facts)


def test_two_processes_learn_what_one_does(tmp_path):
    """At the same batch, shared: the same loss curve and flow to rounding, resumed or not, from one writer."""
    for processes, name in ((1, "one"), (2, "two")):
        learn_together(lesson(tmp_path, name), processes)
    curves = [
        [json.loads(line) for line in (tmp_path / name / "history.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [record["step"] for record in curves[0]] == [record["step"] for record in curves[1]] == [4, 8, 12]
    for field in ("loss_bits_per_dim", "validation_bits_per_dim"):
        left, right = ([record[field] for record in curve] for curve in curves)
        np.testing.assert_allclose(left, right, rtol=1e-4)
    one, two = (load_flow(tmp_path / name) for name in ("one", "two"))
    x = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(one.log_prob(x), two.log_prob(x), rtol=1e-3, atol=0.5)
    assert not list(tmp_path.glob("*-state"))


def test_a_failure_in_one_of_several_processes_is_said(tmp_path):
    settings = {"flow": "haar_glow", "settings": {"levels": 5}, "training": SETTINGS.model_dump()}
    with pytest.raises(FlowpriorError, match="training in 2 processes ended with status"):
        learn_together(lesson(tmp_path, "bad", prior=settings), 2)
    assert not (tmp_path / "bad").exists()
