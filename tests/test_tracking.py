"""Records of an experiment, and their way into MLflow."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from report_fixture import fabricate, tiny_experiment

from flowprior.errors import FlowpriorError
from flowprior.records import CURVE_POINTS, Record, flat, mean_curves, records_of, thinned
from flowprior.report import Layout
from flowprior.tracking import SUPERSEDED, TrackingError, publish, serve, tracking_uri

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The files of an experiment that ran."""
    root, experiment = tmp_path_factory.mktemp("tree"), tiny_experiment()
    fabricate(root, experiment)
    for prior in experiment.priors:
        Image.new("RGB", (8, 8)).save(Layout(experiment, root).flow(prior, "samples.png"))
    return root, experiment


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


class TestRecords:
    def test_are_one_per_training_and_setting(self, tree):
        root, experiment = tree
        records = list(records_of(experiment, root))
        expected = len(experiment.priors) + sum(
            len(experiment.points(method, task)) * len(experiment.priors_of(method))
            for method in experiment.methods
            for task in experiment.tasks_of(method)
        )
        assert len(records) == len({record.key for record in records}) == expected

    def test_say_what_the_rows_say(self, tree):
        root, experiment = tree
        rows = pd.read_parquet(root / "results/tiny/rows.parquet")
        record = next(r for r in records_of(experiment, root) if r.key == "tiny/denoising/chavez/flow_a/alpha=0.02")
        mine = rows[(rows.task == "denoising") & (rows.method == "chavez") & (rows.setting == "alpha=0.02")]
        test, validation = mine[mine.split == "test"], mine[mine.split == "validation"]
        assert record.metrics["psnr"] == pytest.approx(test.psnr.mean())
        assert record.metrics["ssim"] == pytest.approx(test.ssim.mean())
        assert record.metrics["validation_psnr"] == pytest.approx(validation.psnr.mean())
        assert record.metrics["n"] == len(test) == experiment.test_images
        assert record.settings["alpha"] == "0.02"
        assert record.settings["task.operator"] == "identity"
        assert record.curves["trace/psnr"][-1] == (150, pytest.approx(test.psnr.mean()))

    def test_name_how_their_setting_was_chosen(self, tree):
        root, experiment = tree
        summary = pd.read_csv(root / "results/tiny/summary.csv")
        chosen = [r for r in records_of(experiment, root) if "validation" in r.tags.get("selected_by", "")]
        assert len(chosen) == (summary.selected_by == "validation").sum()
        paper = [r.tags["setting"] for r in records_of(experiment, root) if "paper" in r.tags.get("selected_by", "")]
        assert sorted(paper) == ["alpha=0.05", "alpha=0.3"]

    def test_write_their_artifacts(self, tree, tmp_path):
        root, experiment = tree
        for record in records_of(experiment, root):
            for name, write in record.artifacts.items():
                write(tmp_path / name)
        with Image.open(tmp_path / "reconstructions.png") as picture:
            assert picture.width % 8 == 0  # as many columns as images, three rows
            assert picture.height == 3 * 128
        assert len(pd.read_csv(tmp_path / "images.csv")) > 0
        assert (tmp_path / "history.jsonl").stat().st_size > 0

    def test_change_their_digest_with_what_was_measured(self):
        record = Record("g", "n", "k", {"a": "1"}, {"psnr": 30.0})
        assert record.digest == Record("g", "n", "k", {"a": "1"}, {"psnr": 30.0}).digest
        assert record.digest != Record("g", "n", "k", {"a": "1"}, {"psnr": 30.1}).digest
        assert record.digest != Record("g", "n", "k", {"a": "2"}, {"psnr": 30.0}).digest


def test_curves_are_thinned_without_losing_their_ends():
    points = [(step, float(step)) for step in range(10_000)]
    thin = thinned(points)
    assert len(thin) == CURVE_POINTS
    assert (thin[0], thin[-1]) == (points[0], points[-1])
    assert thinned([(0, float("nan")), (1, 2.0)]) == ((1, 2.0),)


def test_methods_without_steps_have_no_curves():
    assert mean_curves(pd.DataFrame({"evaluations": [0, 0]})) == {}


def test_nested_settings_get_dotted_names():
    assert flat({"a": {"b": {"c": None}}, "d": [1]}) == {"a.b.c": "None", "d": "[1]"}


@pytest.fixture(scope="module")
def published(tree, tmp_path_factory):
    """All records of the tree, sent to a fresh database."""
    root, experiment = tree
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return place, publish(records_of(experiment, root), place, "abc123")


class TestPublishing:
    def client(self, place):
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=tracking_uri(place))

    def test_makes_one_run_per_record(self, tree, published):
        from mlflow.entities import ViewType

        root, experiment = tree
        place, done = published
        client = self.client(place)
        assert done.new == len(done.runs) == len(list(records_of(experiment, root)))
        groups = {
            group.name: group.experiment_id for group in client.search_experiments(view_type=ViewType.ACTIVE_ONLY)
        }
        assert {"tiny/training", "tiny/denoising", "tiny/colorization"} <= set(groups)
        run = client.get_run(done.runs["tiny/denoising/chavez/flow_a/alpha=0.02"])
        assert run.info.status == "FINISHED"
        assert run.data.params["alpha"] == "0.02"
        assert run.data.tags["mlflow.source.git.commit"] == "abc123"
        assert run.data.metrics["psnr"] > 0
        assert len(client.get_metric_history(run.info.run_id, "trace/psnr")) > 1
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert names == {"reconstructions.png", "images.csv"}
        assert (place / "mlflow.db").exists()
        assert (place / "mlartifacts" / "tiny").is_dir()

    def test_keeps_a_thinned_training_curve(self, published):
        place, done = published
        history = self.client(place).get_metric_history(done.runs["tiny/training/flow_a"], "loss_bits_per_dim")
        assert len(history) == 200
        assert [point.step for point in history] == sorted(point.step for point in history)

    def test_twice_makes_no_second_run(self, tree, published):
        root, experiment = tree
        place, done = published
        again = publish(records_of(experiment, root), place)
        assert again.new == 0
        assert again.runs == done.runs

    def test_a_changed_number_makes_a_new_run_and_marks_the_old(self, tmp_path):
        old = publish([Record("g", "n", "k", {}, {"psnr": 30.0})], tmp_path)
        new = publish([Record("g", "n", "k", {}, {"psnr": 31.0})], tmp_path)
        assert new.new == 1
        tags = self.client(tmp_path).get_run(old.runs["k"]).data.tags
        assert tags[SUPERSEDED] == new.runs["k"]

    def test_interrupted_half_way_is_made_whole(self, tmp_path):
        def fail(target):
            raise RuntimeError("power cut")

        record = Record("g", "n", "k", {}, {"psnr": 30.0})
        with pytest.raises(RuntimeError):
            publish([Record("g", "n", "k", {}, {"psnr": 30.0}, artifacts={"a": fail})], tmp_path)
        done = publish([record], tmp_path)
        client = self.client(tmp_path)
        group = client.get_experiment_by_name("g")
        assert [run.info.run_id for run in client.search_runs([group.experiment_id])] == [done.runs["k"]]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://user:secret@127.0.0.1:9"])
def test_a_server_out_of_reach_is_one_line_without_its_password(tmp_path, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9") as error:
        publish([], tmp_path)
    assert "secret" not in str(error.value)


def test_a_broken_database_is_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database, whatever its name says")
    with pytest.raises(TrackingError) as error:
        publish([Record("g", "n", "k", {}, {})], tmp_path)
    assert "\n" not in str(error.value)


def test_there_is_nothing_to_serve_before_the_first_run(tmp_path):
    with pytest.raises(FlowpriorError, match="make run"):
        serve(tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_else_imports_mlflow():
    sources = [
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "workflow").rglob("*.py"),
        *(ROOT / "workflow").rglob("*.smk"),
    ]
    importing = [
        path.name for path in sources if "import mlflow" in (text := path.read_text()) or "from mlflow" in text
    ]
    assert importing == ["tracking.py"]


def test_records_cost_no_mlflow():
    program = "import sys, flowprior.records, flowprior.tracking; print('mlflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "False"
