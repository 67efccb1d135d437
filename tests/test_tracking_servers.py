"""Where records go: other databases, servers, and what may be in the way there."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
import requests
from published_tree import make_tree
from tracked import CHAVEZ, client_of, record_of, runs_of

from flowprior import tracking
from flowprior.errors import FlowpriorError
from flowprior.records import records_of
from flowprior.report import Layout
from flowprior.tracking import TrackingError, publish, publish_experiment, serve, tracking_uri
from flowprior.tracking.sending import CURRENT
from flowprior.tracking.server import _reason
from flowprior.tracking.ui import pages_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_server")]


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
            assert tracking.load_flow(f"models:/flow-{experiment.data.key}-8bit@best").name == "haar_glow"
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
