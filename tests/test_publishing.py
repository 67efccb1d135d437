"""Records on their way into MLflow: each once, whatever happens."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import requests
from published_tree import make_tree, save_weights
from report_fixture import CALL

from flowprior import flows
from flowprior.errors import FlowpriorError
from flowprior.provenance.invocation import Invocation
from flowprior.records import records_of
from flowprior.records.record import ImageSet, Record
from flowprior.report import Layout
from flowprior.tracking import TrackingError, publish, publish_experiment, serve, tracking_uri
from flowprior.tracking.columns import VIEW
from flowprior.tracking.sending import CURRENT, KIND
from flowprior.tracking.server import _reason, addressed
from flowprior.tracking.ui import pages_of

CHAVEZ = "tiny/denoising/chavez/flow_a/alpha=0.02"
FIRST = Invocation(**CALL)
SECOND = Invocation("20260103-000000-012345", "2026-01-03T00:00:00+00:00", "snakemake --forcerun train")


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def client_of(place):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri(place))


def runs_of(place, group, condition=""):
    client = client_of(place)
    return client.search_runs([client.get_experiment_by_name(group).experiment_id], condition)


def record_of(key="k", psnr=30.0, **changes):
    return replace(Record("g", "reconstruction", key, key, {}, {"psnr": psnr}), **changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An empty database: MLflow takes seconds to make one."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        runs = publish([record_of(group="before")], place)
    client_of(place).delete_run(runs.runs["k"])
    return place / "mlflow.db"


@pytest.fixture
def place(made, tmp_path):
    """A repository with an empty database."""
    shutil.copy(made, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """All records of a tree, sent to a fresh database."""
    root = tmp_path_factory.mktemp("tree")
    experiment = make_tree(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return root, experiment, publish(records_of(experiment, root), root)


class TestARun:
    def test_says_what_its_record_says(self, published):
        root, experiment, done = published
        record = next(record for record in records_of(experiment, root) if record.key == CHAVEZ)
        run = client_of(root).get_run(done.runs[CHAVEZ])
        assert (run.info.status, run.info.run_name) == ("FINISHED", "denoising chavez alpha=0.02")
        assert run.data.params == dict(record.settings)
        assert run.data.metrics.items() >= dict(record.metrics).items()
        assert run.data.tags.items() >= {**record.tags, **record.marks, CURRENT: "yes"}.items()
        assert run.info.end_time - run.info.start_time == int(1000 * record.seconds)
        assert run.info.start_time == int(1000 * record.started.timestamp())

    def test_has_its_curve_its_pictures_and_its_table(self, published):
        root, _, done = published
        client = client_of(root)
        assert len(client.get_metric_history(done.runs[CHAVEZ], "trace/psnr")) > 1
        files = {file.path for file in client.list_artifacts(done.runs[CHAVEZ])}
        assert files == {"reconstructions.png", "images.json", "history.csv", "settings.yaml", "log.txt"}
        group = client.get_experiment_by_name("tiny/photos-16px").experiment_id
        with addressed(tracking_uri(root)):
            table = client.load_table(group, "images.json", run_ids=[done.runs[CHAVEZ]])
        assert len(table) == 12 and "psnr" in table
        training = client.get_metric_history(done.runs["tiny/training/flow_a"], "loss_bits_per_dim")
        assert len(training) == 200
        assert [point.step for point in training] == sorted(point.step for point in training)

    def test_names_its_images_as_mlflow_does(self, published):
        import mlflow

        root, _, done = published
        (used,) = client_of(root).get_run(done.runs[CHAVEZ]).inputs.dataset_inputs
        assert used.dataset.name == "photos-16px test" and len(used.dataset.digest) == 16
        assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "test"}
        assert (root / mlflow.data.get_source(used.dataset).uri).exists()

    def test_lies_beneath_the_call_that_made_it(self, published):
        root, _, done = published
        (call,) = runs_of(root, "tiny/photos-16px", f"tags.`{KIND}` = 'invocation'")
        assert call.info.status == "FINISHED"
        assert call.data.params["command"] == FIRST.command
        assert call.info.start_time == 1000 * int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp())
        beneath = runs_of(root, "tiny/photos-16px", f"tags.`mlflow.parentRunId` = '{call.info.run_id}'")
        assert {run.info.run_id for run in beneath} == set(done.runs.values())

    def test_is_found_on_a_page_with_the_columns_that_tell_methods_apart(self, published):
        root, _, _ = published
        assert list(pages_of(root)) == ["tiny/photos-16px"]
        experiment = client_of(root).get_experiment_by_name("tiny/photos-16px")
        view = json.loads(experiment.tags[f"mlflow.sharedViewState.{VIEW}"])
        assert {"params.`method`", "params.`task`", "metrics.`psnr`"} <= set(view["selectedColumns"])
        assert pages_of(root)["tiny/photos-16px"].endswith(f"/{experiment.experiment_id}/runs?viewStateShareKey={VIEW}")


class TestPublishingAgain:
    def test_makes_no_second_run(self, published):
        root, experiment, done = published
        again = publish(records_of(experiment, root), root)
        assert (again.new, again.models, again.runs) == (0, (), done.runs)
        assert len(runs_of(root, "tiny/photos-16px")) == len(done.runs) + 1

    def test_with_a_changed_number_makes_a_new_run_and_the_old_one_is_no_longer_current(self, place):
        old = publish([record_of(), record_of("other")], place)
        new = publish([record_of(psnr=31.0), record_of("other")], place)
        assert (new.new, new.runs["other"]) == (1, old.runs["other"])
        current = {run.info.run_id for run in runs_of(place, "g", f"tags.`{CURRENT}` = 'yes'")}
        assert current == set(new.runs.values())
        back = publish([record_of(), record_of("other")], place)
        assert (back.new, back.runs) == (0, old.runs)
        current = {run.info.run_id for run in runs_of(place, "g", f"tags.`{CURRENT}` = 'yes'")}
        assert current == set(old.runs.values())

    def test_with_another_choice_changes_a_mark_of_the_same_run(self, place):
        old = publish([record_of(marks={"selected_by": "-"})], place)
        new = publish([record_of(marks={"selected_by": "validation"})], place)
        assert (new.new, new.runs) == (0, old.runs)
        assert client_of(place).get_run(new.runs["k"]).data.tags["selected_by"] == "validation"

    def test_after_a_setting_was_dropped_its_run_is_no_longer_current(self, place):
        old = publish([record_of("a"), record_of("b")], place)
        publish([record_of("a")], place)
        assert client_of(place).get_run(old.runs["b"]).data.tags[CURRENT] == "no"

    @pytest.mark.parametrize("broken", [0, 1, 2])
    def test_after_an_interruption_finishes_what_was_begun(self, place, broken):
        def fail(target):
            raise RuntimeError("power cut")

        keys = ("a", "b", "c")
        interrupted = [
            record_of(key, call=FIRST, artifacts={"file": fail} if number == broken else {})
            for number, key in enumerate(keys)
        ]
        with pytest.raises(RuntimeError):
            publish(interrupted, place)
        done = publish([record_of(key, call=FIRST) for key in keys], place)
        assert done.new == 3 - broken
        runs = {run.info.run_id: run for run in runs_of(place, "g")}
        (call,) = [identity for identity, run in runs.items() if run.data.tags[KIND] == "invocation"]
        assert set(runs) == {*done.runs.values(), call}
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        assert {runs[identity].data.tags["mlflow.parentRunId"] for identity in done.runs.values()} == {call}
        assert runs[call].data.metrics["runs"] == 3

    def test_puts_each_run_beneath_the_call_that_it_was_made_in(self, place):
        for _ in range(2):
            done = publish([record_of("a", call=FIRST), record_of("b", call=SECOND)], place)
            more = publish([record_of("a", call=FIRST), record_of("b", call=SECOND), record_of("c", call=FIRST)], place)
        runs = {run.info.run_id: run for run in runs_of(place, "g")}
        calls = {run.data.params["command"]: run for run in runs.values() if run.data.tags[KIND] == "invocation"}
        assert len(runs) == 5 and set(calls) == {FIRST.command, SECOND.command}
        parents = {key: runs[more.runs[key]].data.tags["mlflow.parentRunId"] for key in "abc"}
        first, second = calls[FIRST.command].info.run_id, calls[SECOND.command].info.run_id
        assert parents == {"a": first, "b": second, "c": first} and done.runs["a"] == more.runs["a"]
        assert [calls[call.command].data.metrics["runs"] for call in (FIRST, SECOND)] == [2, 1]
        assert all(run.info.end_time >= run.info.start_time for run in runs.values())

    def test_from_two_programs_at_once_into_a_new_database(self, tmp_path):
        program = (
            "import sys; from pathlib import Path; from flowprior.tracking import publish; "
            "from flowprior.records.record import Record; "
            "publish([Record(sys.argv[1], 'reconstruction', 'n', sys.argv[1], {}, {})], Path(sys.argv[2]))"
        )
        started = [
            subprocess.Popen([sys.executable, "-c", program, name, str(tmp_path)], stderr=subprocess.PIPE, text=True)
            for name in ("one", "two")
        ]
        assert [(process.wait(), process.stderr.read()[-500:]) for process in started] == [(0, "")] * 2
        assert len(runs_of(tmp_path, "one")) == len(runs_of(tmp_path, "two")) == 2


class TestRegisteredFlows:
    def test_load_as_the_flow_they_are(self, published, monkeypatch):
        import mlflow
        import torch

        root, experiment, done = published
        monkeypatch.chdir(root)
        assert done.models == (f"flow-{experiment.data.key}-8bit version 1",)
        uri = f"models:/flow-{experiment.data.key}-8bit@best"
        flow, trained = flows.load(uri), flows.load(Layout(experiment, root).flow("flow_a", ""))
        x = torch.rand(3, *flow.shape)
        assert torch.equal(flow.log_prob(x), trained.log_prob(x))
        with addressed(tracking_uri(root)):
            latents, log_det = mlflow.pytorch.load_model(uri)(x)
            about = mlflow.models.get_model_info(uri)
        for found, wanted in zip((latents, log_det), trained(x), strict=True):
            torch.testing.assert_close(found, wanted)
        assert [spec.name for spec in about.signature.inputs.inputs] == ["images"]
        assert [spec.name for spec in about.signature.outputs.inputs] == ["latents", "log_det"]
        version = client_of(root).get_model_version_by_alias(f"flow-{experiment.data.key}-8bit", "best")
        assert version.run_id == done.runs["tiny/training/flow_a"]

    def test_the_best_is_the_one_with_the_fewest_bits(self, place):
        name, best = None, []
        for seed, bits_per_dim in ((1, 4.0), (2, 3.5), (3, 3.9)):
            experiment = make_tree(place)
            save_weights(Layout(experiment, place), "flow_a", seed, bits_per_dim=bits_per_dim)
            only_training = [record for record in records_of(experiment, place) if record.kind == "training"]
            done = publish(only_training, place)
            assert len(done.models) == 1
            name = done.models[0].partition(" ")[0]
            best.append(client_of(place).get_model_version_by_alias(name, "best").version)
        assert [int(version) for version in best] == [1, 2, 2]
        run = client_of(place).get_run(done.runs["tiny/training/flow_a"])
        # Opening the run again for its model left its times as they were.
        assert run.info.end_time - run.info.start_time == 182_000

    def test_after_an_interruption_the_best_is_named(self, place):
        experiment = make_tree(place)
        done = publish(records_of(experiment, place), place)
        name = done.models[0].partition(" ")[0]
        client_of(place).delete_registered_model_alias(name, "best")
        assert publish(records_of(experiment, place), place).models == ()
        assert int(client_of(place).get_model_version_by_alias(name, "best").version) == 1

    def test_one_that_is_not_there_is_one_line(self, published, monkeypatch):
        root, _, _ = published
        monkeypatch.chdir(root)
        with pytest.raises(FlowpriorError, match="no flow at models:/nothing@best") as error:
            flows.load("models:/nothing@best")
        assert "\n" not in str(error.value)

    def test_looking_for_one_leaves_nothing_behind(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FlowpriorError, match="nothing is recorded yet"):
            flows.load("models:/some-flow@best")
        assert not list(tmp_path.iterdir())


def test_a_database_may_be_named_by_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/other.db"
    publish([record_of()], tmp_path)
    assert (tmp_path / "other.db").exists() and not (tmp_path / "mlflow.db").exists()
    assert list(pages_of(tmp_path)) == ["g"]


def test_runs_of_another_repository_on_the_same_server_are_left_alone(place, monkeypatch):
    monkeypatch.setattr("flowprior.tracking.group.is_local", lambda uri: False)
    monkeypatch.setattr(
        "flowprior.tracking.group._experiment", lambda client, *_: client.get_experiment_by_name("g").experiment_id
    )
    client_of(place).create_experiment("g", artifact_location=(place / "files").as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(place))
    (other := place / "other").mkdir()
    first, second = publish([record_of()], place), publish([record_of(psnr=31.0)], other)
    assert second.new == 1
    current = {run.info.run_id for run in runs_of(place, "g", f"tags.`{CURRENT}` = 'yes'")}
    assert current == {first.runs["k"], second.runs["k"]}


def test_a_server_elsewhere_gets_runs_files_and_flows(tmp_path, monkeypatch, capfd):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (there := tmp_path / "there").mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{there}/m.db", "--artifacts-destination", str(there / "files")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    (here := tmp_path / "here").mkdir()
    experiment = make_tree(here)
    with subprocess.Popen(command, env=environment, cwd=there, **quiet) as server:
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert time.monotonic() < end
                    time.sleep(0.2)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            done = publish(records_of(experiment, here), here)
            assert publish(records_of(experiment, here), here).new == 0
            monkeypatch.chdir(here)
            assert flows.load(f"models:/flow-{experiment.data.key}-8bit@best").name == "haar_glow"
            assert client_of(here).get_run(done.runs[CHAVEZ]).data.params["alpha"] == "0.02"
        finally:
            server.terminate()
    assert list((there / "files").rglob("reconstructions.png"))
    assert {path.name for path in here.iterdir()} == {"prepared", "results", "logs"}
    assert "View run" not in capfd.readouterr().out


class TestWhatIsInTheWay:
    @pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://user:secret@127.0.0.1:9"])
    def test_a_server_out_of_reach(self, tmp_path, monkeypatch, uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9") as error:
            publish([], tmp_path)
        assert "secret" not in str(error.value)

    def test_leaves_the_records_to_be_published_later(self, place, monkeypatch, capsys):
        experiment = make_tree(place)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert not publish_experiment(experiment, place, "make publish PARAMS=params/tiny.yaml")
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("flowprior:")]
        assert len(said) == 1 and "publish them later by: make publish PARAMS=params/tiny.yaml" in said[0]
        published = Layout(experiment, place).published
        assert json.loads(published.read_text())["status"] == "pending"
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        assert publish_experiment(experiment, place, "")
        facts = json.loads(published.read_text())
        assert facts["status"] == "published" and len(facts["runs"]) == len(list(records_of(experiment, place)))

    def test_a_file_that_is_no_database(self, tmp_path):
        (tmp_path / "mlflow.db").write_text("this is no database, whatever its name says")
        with pytest.raises(TrackingError, match=r"mlflow\.db cannot be used") as error:
            publish([record_of()], tmp_path)
        assert "\n" not in str(error.value)

    def test_a_database_of_another_version_of_mlflow(self, place):
        with sqlite3.connect(place / "mlflow.db") as database:
            database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        with pytest.raises(TrackingError, match="another version of MLflow; `mlflow db upgrade`") as error:
            publish([record_of(psnr=31.0)], place)
        assert "\n" not in str(error.value)
        with pytest.raises(TrackingError, match="another version of MLflow"):
            serve(place)

    def test_a_locked_database(self, place, monkeypatch):
        publish([record_of()], place)
        monkeypatch.setattr("flowprior.tracking.server.LOCK_PATIENCE", 0.2)
        holder = sqlite3.connect(place / "mlflow.db", check_same_thread=False)
        holder.execute("BEGIN EXCLUSIVE")
        try:
            with pytest.raises(TrackingError, match="another program holds it locked"):
                publish([record_of(psnr=31.0)], place)
        finally:
            holder.rollback()
            holder.close()
        assert publish([record_of(psnr=31.0)], place).new == 1

    def test_one_that_is_soon_let_go_is_waited_for(self, place):
        publish([record_of()], place)
        holder = sqlite3.connect(place / "mlflow.db", check_same_thread=False)
        holder.execute("BEGIN EXCLUSIVE")

        def let_go():
            time.sleep(1.0)
            holder.rollback()

        thread = threading.Thread(target=let_go)
        thread.start()
        assert publish([record_of(psnr=31.0)], place).new == 1
        thread.join()

    def test_a_server_that_takes_no_files(self, place, monkeypatch):
        def refuse(self, run_id, folder):
            raise requests.HTTPError("413 Client Error: Request Entity Too Large for url: http://a:secret@b")

        monkeypatch.setattr("mlflow.tracking.MlflowClient.log_artifacts", refuse)
        with pytest.raises(TrackingError, match="413 Client Error"):
            publish([record_of()], place)

    def test_a_password_in_what_a_server_says(self, monkeypatch):
        uri = "http://someone:geheim@127.0.0.1:9"
        said = _reason(OSError(f"API request to {uri}/api failed with geheim"), uri)
        assert "geheim" not in said and "127.0.0.1:9/api" in said

    def test_a_server_without_a_registry_has_the_runs(self, place, monkeypatch):
        from mlflow.exceptions import MlflowException

        def refuse(self, *given, **named):
            raise MlflowException("the model registry is not enabled")

        monkeypatch.setattr("mlflow.tracking.MlflowClient.search_model_versions", refuse)
        experiment = make_tree(place)
        done = publish(records_of(experiment, place), place)
        assert done.new == len(done.runs) and not done.models
        assert done.remarks[0].endswith("the model registry is not enabled")

    def test_nothing_to_serve_before_the_first_run(self, tmp_path):
        with pytest.raises(FlowpriorError, match="make run"):
            serve(tmp_path)
        assert not list(tmp_path.iterdir())


def test_images_of_one_name_and_another_content_are_other_inputs():
    images = ImageSet("photos-32px test", "ab", "test", "prepared/x/test.npy", 8)
    assert record_of(inputs=(images,)).digest != record_of(inputs=(images._replace(digest="cd"),)).digest
