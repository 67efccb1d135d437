"""Records as MLflow runs: each once, beneath a run that stands for the call of the workflow that it was made in.

A record that is already there is not sent again; one whose numbers changed becomes a new run, and the old one is
marked as no longer current. What an interruption leaves half done is finished by the next publication.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from flowprior.records import Record
from flowprior.tracking.server import reached, shown


@dataclass(frozen=True)
class Published:
    """What publishing did.

    Attributes:
        uri: where to, without a password.
        runs: key of each record -> id of its run.
        new: how many runs were made.
        models: new versions of registered models, such as "flow-photos-32px version 2".
        remarks: what could not be registered, and why.
    """

    uri: str
    runs: dict[str, str]
    new: int
    models: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def publish(records: Iterable[Record], root: Path, progress: Callable[[int, int], None] | None = None) -> Published:
    """Make one MLflow run per record that has none yet.

    Args:
        records: everything an experiment has: runs of the same groups that are not among them are marked as no longer
            current.
        root: repository root; the default database and the artifacts lie there.
        progress: called with (records done, all).

    Raises:
        TrackingError: one line that says what is in the way; the records stay as files.
    """
    with reached(root) as uri:
        from mlflow.tracking import MlflowClient

        from flowprior.tracking.group import Group
        from flowprior.tracking.models import register

        client, wanted = MlflowClient(tracking_uri=uri), list(records)
        groups = {name: Group(client, name, uri, root) for name in dict.fromkeys(record.group for record in wanted)}
        runs: dict[str, str] = {}
        new = 0
        for done, record in enumerate(wanted):
            known = groups[record.group].find(record)
            if known is None:
                known = groups[record.group].send(record)
                new += 1
            runs[record.key] = known
            if progress:
                progress(done + 1, len(wanted))
        for group in groups.values():
            group.close(runs)
        # Last: a server without a registry has all runs by then.
        registered = [register(client, uri, runs[record.key], record) for record in wanted if record.checkpoint]
        models = tuple(entry.made for entry in registered if entry.made)
        return Published(shown(uri), runs, new, models, tuple(entry.remark for entry in registered if entry.remark))
