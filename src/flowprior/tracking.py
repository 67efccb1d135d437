"""Records as MLflow runs. The only module that imports mlflow, and only when something is sent.

Jobs write files; one step at the end sends what they say. A record that is already there is not sent again;
one whose numbers changed becomes a new run, and the old one is marked as superseded.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flowprior.errors import FlowpriorError
from flowprior.records import Record

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

#: Tags by which a run is found again.
KEY = "flowprior.key"
DIGEST = "flowprior.digest"
SUPERSEDED = "flowprior.superseded_by"
#: MLflow takes at most so many metrics at once.
BATCH = 1000
#: Seconds until a server counts as unreachable.
PATIENCE = 5.0


class TrackingError(FlowpriorError):
    """The tracking server cannot be reached, or refuses; the records stay as files."""


@dataclass(frozen=True)
class Published:
    """What publishing did.

    Attributes:
        uri: where to.
        runs: key of each record -> id of its run.
        new: how many runs were made.
    """

    uri: str
    runs: dict[str, str]
    new: int


def tracking_uri(root: Path) -> str:
    """Where records go: MLFLOW_TRACKING_URI if set, else `mlflow.db` in the repository."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root.resolve() / 'mlflow.db').as_posix()}"


def publish(records: Iterable[Record], root: Path, commit: str | None = None) -> Published:
    """Make one MLflow run per record that has none yet.

    Args:
        records: what to send.
        root: repository root; the default database and the artifacts lie there.
        commit: commit of the source tree, for the runs' tags.

    Raises:
        TrackingError: one line that says where the records stay and what to do later.
    """
    uri = tracking_uri(root)
    _be_quiet()
    try:
        _reach(uri)
    except OSError as error:
        raise TrackingError(f"no tracking server at {_shown(uri)} ({error})") from None
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return _publish(records, uri, root, commit)
    except (MlflowException, SQLAlchemyError) as error:
        raise TrackingError(f"the records at {_shown(uri)} cannot be written: {_first_line(error)}") from error


def _publish(records: Iterable[Record], uri: str, root: Path, commit: str | None) -> Published:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    groups: dict[str, tuple[str, dict[str, list[Run]]]] = {}
    runs: dict[str, str] = {}
    new = 0
    for record in records:
        if record.group not in groups:
            identity = _group(client, record.group, uri, root)
            groups[record.group] = identity, _existing(client, identity)
        identity, existing = groups[record.group]
        earlier = existing.get(record.key, [])
        same = [run for run in earlier if run.data.tags.get(DIGEST) == record.digest]
        if same:
            runs[record.key] = same[0].info.run_id
            continue
        runs[record.key] = _send(client, identity, record, commit)
        new += 1
        for run in earlier:
            if DIGEST in run.data.tags:
                client.set_tag(run.info.run_id, SUPERSEDED, runs[record.key])
            else:  # publishing was interrupted before this run was whole
                client.delete_run(run.info.run_id)
    return Published(_shown(uri), runs, new)


def _send(client: MlflowClient, group: str, record: Record, commit: str | None) -> str:
    """One run; its digest comes last, so that half a run is never taken for a whole one."""
    from mlflow.entities import Metric, Param, RunTag

    tags = {**record.tags, KEY: record.key, "mlflow.source.name": "flowprior"}
    if commit:
        tags["mlflow.source.git.commit"] = commit
    run_id = client.create_run(group, run_name=record.name, tags=tags).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in record.metrics.items()]
    metrics += [Metric(name, value, now, step) for name, curve in record.curves.items() for step, value in curve]
    client.log_batch(run_id, params=[Param(name, value[:6000]) for name, value in record.settings.items()])
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])
    with tempfile.TemporaryDirectory() as folder:
        for name, write in record.artifacts.items():
            write(Path(folder) / name)
        client.log_artifacts(run_id, folder)
    client.log_batch(run_id, tags=[RunTag(DIGEST, record.digest)])
    client.set_terminated(run_id)
    return run_id


def _group(client: MlflowClient, name: str, uri: str, root: Path) -> str:
    """Id of the MLflow experiment of this name; made if it is not there."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id
    local = uri.startswith("sqlite:")
    place = (root.resolve() / "mlartifacts" / name).as_uri() if local else None
    return client.create_experiment(name, artifact_location=place)


def _existing(client: MlflowClient, group: str) -> dict[str, list[Run]]:
    """Runs of an MLflow experiment by the key of their record, superseded ones left out."""
    found: dict[str, list[Run]] = {}
    token = None
    while True:
        page = client.search_runs([group], max_results=1000, page_token=token)
        for run in page:
            if KEY in run.data.tags and SUPERSEDED not in run.data.tags:
                found.setdefault(run.data.tags[KEY], []).append(run)
        token = page.token
        if not token:
            return found


def _reach(uri: str) -> None:
    """Raise OSError at once where MLflow itself would try for minutes."""
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https") and parts.hostname:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=PATIENCE).close()


def _be_quiet() -> None:
    """No telemetry, no migration messages, no endless retries; before mlflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _shown(uri: str) -> str:
    """The address without a password."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        return f"{parts.scheme}:///{Path(parts.path).name}"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def serve(root: Path, port: int | None = None) -> None:
    """Serve MLflow's pages of the records to this machine only, until interrupted.

    Args:
        root: repository root.
        port: None: any free one.

    Raises:
        FlowpriorError: nothing was recorded yet, or the port is taken.
    """
    _be_quiet()
    uri = tracking_uri(root)
    if uri.startswith("sqlite:") and not Path(urlsplit(uri).path).exists():
        raise FlowpriorError("nothing is recorded yet; run an experiment first: make run")
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port or 0))
        except OSError:
            raise FlowpriorError(f"port {port} is taken; choose another, or none for a free one") from None
        port = probe.getsockname()[1]
    print(f"http://127.0.0.1:{port}  (ready in some seconds; Ctrl-C ends it)", flush=True)
    # Only pages are wanted: one worker, and no runner of jobs beside it.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, *place]
    os.execv(sys.executable, command)  # in place of this program, so that it ends as a person ends it
