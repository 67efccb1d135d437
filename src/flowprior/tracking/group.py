"""One MLflow experiment while records are sent to it: what it has already, and what is no longer so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flowprior.records import Record
from flowprior.tracking.columns import show_columns
from flowprior.tracking.sending import CURRENT, DIGEST, INVOCATION, KEY, KIND, PLACE, Sender, invocation_key
from flowprior.tracking.server import is_local

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


class Group:
    """The runs of one list.

    A server may be shared: runs of other repositories are left alone.

    Args:
        client: of the tracking server.
        name: of the MLflow experiment, which is made if it is not there.
        uri: the server's address.
        root: the repository.
    """

    def __init__(self, client: MlflowClient, name: str, uri: str, root: Path) -> None:
        self._client = client
        self._identity = _experiment(client, name, uri, root)
        # The repository's own database may move with it; on a server its path tells it from others.
        self._place = "" if is_local(uri) else str(root.resolve())
        self._sender = Sender(client, self._identity, self._place)
        self._runs: dict[str, list[Run]] = {}
        self._calls: dict[str, str] = {}
        self._open: set[str] = set()
        for run in _all_runs(client, self._identity):
            tags = run.data.tags
            if KEY not in tags or tags.get(PLACE, "") != self._place:
                continue
            if tags.get(KIND) == INVOCATION:
                self._calls[tags[KEY]] = run.info.run_id
                # A publication of it was interrupted.
                self._open |= {run.info.run_id} if run.info.status == "RUNNING" else set()
            elif DIGEST in tags:
                self._runs.setdefault(tags[KEY], []).append(run)
            else:  # publishing was interrupted before this run was whole
                client.delete_run(run.info.run_id)

    def find(self, record: Record) -> str | None:
        """The run that says what a record says, brought up to date; None if there is none."""
        for run in self._runs.get(record.key, []):
            if run.data.tags[DIGEST] == record.digest:
                self._mark(run, {**record.marks, CURRENT: "yes"})
                return str(run.info.run_id)
        return None

    def send(self, record: Record) -> str:
        """A new run of a record, beneath the call of the workflow that it was made in."""
        key = invocation_key(record.call)
        if key not in self._calls:
            self._calls[key] = self._sender.begin(record.call)
        parent = self._calls[key]
        if parent not in self._open:
            self._client.update_run(parent, status="RUNNING")
            self._open.add(parent)
        return self._sender.send(record, parent)

    def close(self, current: Mapping[str, str]) -> None:
        """Mark what is no longer so, and end the runs of the calls.

        Args:
            current: key -> id of the run that stands for it now.
        """
        for key, runs in self._runs.items():
            for run in runs:
                if current.get(key) != run.info.run_id:
                    self._mark(run, {CURRENT: "no"})
        for parent in sorted(self._open):
            beneath = self._client.search_runs(
                [self._identity], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=5000
            )
            started = self._client.get_run(parent).info.start_time
            ends = [run.info.end_time for run in beneath if run.info.end_time and run.info.end_time > started]
            seconds = sum((run.info.end_time or run.info.start_time) - run.info.start_time for run in beneath) / 1000
            self._client.log_metric(parent, "runs", len(beneath))
            self._client.log_metric(parent, "computing_seconds", seconds)
            self._client.set_terminated(parent, end_time=max(ends, default=None))

    def _mark(self, run: Run, marks: Mapping[str, str]) -> None:
        for name, value in marks.items():
            if run.data.tags.get(name) != value:
                self._client.set_tag(run.info.run_id, name, value)


def _experiment(client: MlflowClient, name: str, uri: str, root: Path) -> str:
    """Id of the MLflow experiment of this name; made if it is not there."""
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found is not None:
        identity = str(found.experiment_id)
    else:
        place = (root.resolve() / "mlartifacts" / name).as_uri() if is_local(uri) else None
        identity = str(client.create_experiment(name, artifact_location=place))
    show_columns(client, identity, found.tags if found is not None else {})
    return identity


def _all_runs(client: MlflowClient, group: str) -> Iterable[Run]:
    token = None
    while True:
        page = client.search_runs([group], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
