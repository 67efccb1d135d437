"""Records as MLflow runs: each once, beneath a run that stands for the call of the workflow that made them.

A record that is already there is not sent again; one whose numbers changed becomes a new run, and the old one is
marked as no longer current. What an interruption leaves half done is finished by the next publication.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowprior.provenance.invocation import Invocation
from flowprior.records import Record
from flowprior.tracking.sending import CURRENT, DIGEST, KEY, KIND, Sender
from flowprior.tracking.server import is_local, reached, shown

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

#: The kind of a run that stands for a call of the workflow.
INVOCATION = "invocation"


@dataclass(frozen=True)
class Published:
    """What publishing did.

    Attributes:
        uri: where to, without a password.
        runs: key of each record -> id of its run.
        new: how many runs were made.
        models: new versions of registered models, such as "flow-photos-32px version 2".
    """

    uri: str
    runs: dict[str, str]
    new: int
    models: tuple[str, ...] = ()


def publish(
    records: Iterable[Record],
    root: Path,
    invocation: Invocation | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Published:
    """Make one MLflow run per record that has none yet.

    Args:
        records: everything an experiment has: runs of the same groups that are not among them are marked as no longer
            current.
        root: repository root; the default database and the artifacts lie there.
        invocation: the call of the workflow that new runs belong to; None: one that is not known.
        progress: called with (records done, all).

    Raises:
        TrackingError: one line that says what is in the way; the records stay as files.
    """
    with reached(root) as uri:
        from mlflow.tracking import MlflowClient

        from flowprior.tracking.models import register

        client, wanted = MlflowClient(tracking_uri=uri), list(records)
        names = dict.fromkeys(record.group for record in wanted)
        groups = {name: _Group(client, name, uri, root, invocation) for name in names}
        runs: dict[str, str] = {}
        new, models = 0, list[str]()
        for done, record in enumerate(wanted):
            group = groups[record.group]
            known = group.find(record)
            if known is None:
                known = group.send(record)
                new += 1
            runs[record.key] = known
            if record.checkpoint is not None and (version := register(client, uri, known, record)) is not None:
                models.append(version)
            if progress:
                progress(done + 1, len(wanted))
        for group in groups.values():
            group.close(runs)
        return Published(shown(uri), runs, new, tuple(models))


class _Group:
    """One MLflow experiment while records are sent to it."""

    def __init__(self, client: MlflowClient, name: str, uri: str, root: Path, invocation: Invocation | None) -> None:
        self._client, self._invocation = client, invocation
        self._identity = _experiment(client, name, uri, root)
        self._sender = Sender(client, self._identity)
        self._runs: dict[str, list[Run]] = {}
        self._parent: str | None = None
        self._seconds: list[float] = []
        for run in _all_runs(client, self._identity):
            tags = run.data.tags
            if tags.get(KIND) == INVOCATION:
                # One that never ended: its publication was interrupted, and goes on.
                if run.info.status == "RUNNING":
                    self._parent = run.info.run_id
            elif KEY in tags and DIGEST in tags:
                self._runs.setdefault(tags[KEY], []).append(run)
            elif KEY in tags:  # publishing was interrupted before this run was whole
                client.delete_run(run.info.run_id)

    def find(self, record: Record) -> str | None:
        """The run that says what a record says, brought up to date; None if there is none."""
        for run in self._runs.get(record.key, []):
            if run.data.tags[DIGEST] == record.digest:
                self._mark(run, {**record.marks, CURRENT: "yes"})
                return str(run.info.run_id)
        return None

    def send(self, record: Record) -> str:
        """A new run of a record."""
        if self._parent is None:
            self._parent = self._sender.begin_invocation(self._invocation)
        self._seconds.append(record.seconds)
        return self._sender.send(record, self._parent)

    def close(self, current: dict[str, str]) -> None:
        """Mark what is no longer so, and end the run of the call."""
        for key, runs in self._runs.items():
            for run in runs:
                if current.get(key) != run.info.run_id:
                    self._mark(run, {CURRENT: "no"})
        if self._parent is not None:
            for name, value in (("runs", len(self._seconds)), ("computing_seconds", sum(self._seconds))):
                self._client.log_metric(self._parent, name, value)
            self._client.set_terminated(self._parent)

    def _mark(self, run: Run, marks: dict[str, str]) -> None:
        for name, value in marks.items():
            if run.data.tags.get(name) != value:
                self._client.set_tag(run.info.run_id, name, value)


def _experiment(client: MlflowClient, name: str, uri: str, root: Path) -> str:
    """Id of the MLflow experiment of this name; made if it is not there."""
    from flowprior.tracking.columns import show_columns

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
