"""Where records go, and what can be in the way: a server out of reach, a database that is locked, or another's."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from flowprior.errors import FlowpriorError

#: Seconds until a server counts as unreachable.
PATIENCE = 5.0
#: Seconds for which a database may be held by another program.
LOCK_PATIENCE = 20.0


class TrackingError(FlowpriorError):
    """The tracking server cannot be reached, or refuses; the records stay as files."""


def tracking_uri(root: Path) -> str:
    """Where records go: MLFLOW_TRACKING_URI if set, else `mlflow.db` in the repository."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root.resolve() / 'mlflow.db').as_posix()}"


@contextmanager
def reached(root: Path) -> Iterator[str]:
    """The address, once it is known that it answers; what MLflow raises inside is one line.

    Two programs that write to the repository's own database take turns: MLflow makes a new database in steps between
    which another must not begin.

    Raises:
        TrackingError: a line that says what is in the way and what to do.
    """
    uri = tracking_uri(root)
    be_quiet()
    try:
        _knock(uri)
    except OSError as error:
        raise TrackingError(f"no tracking server at {shown(uri)} ({error})") from None
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    with _turn(root, uri):
        try:
            _try_to_write(uri)
            yield uri
        except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
            raise TrackingError(f"{shown(uri)} cannot be written to: {_reason(error)}") from error


@contextmanager
def addressed(uri: str) -> Iterator[None]:
    """MLflow's functions that take no address mean this one, as long as the block lasts."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        # It also wrote the variable that says where records go.
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]
        if before is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)


def is_local(uri: str) -> bool:
    """Whether the records are in a file of this machine."""
    return uri.startswith("sqlite:")


def shown(uri: str) -> str:
    """The address without a password; of a file its name alone."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        return Path(parts.path).name
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def be_quiet() -> None:
    """No telemetry, no migration messages, no endless retries; before mlflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _knock(uri: str) -> None:
    """Raise OSError at once where MLflow itself would try for minutes."""
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https") and parts.hostname:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=PATIENCE).close()


def _try_to_write(uri: str) -> None:
    """Raise sqlite3.Error where a file is no database, or is held by another program."""
    path = Path(urlsplit(uri).path)
    if not is_local(uri) or not path.exists():
        return
    with closing(sqlite3.connect(path, timeout=LOCK_PATIENCE)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.rollback()


@contextmanager
def _turn(root: Path, uri: str) -> Iterator[None]:
    """Wait until no other program of this repository writes to its database."""
    if not is_local(uri):
        yield
        return
    place = root / ".snakemake"
    place.mkdir(exist_ok=True)
    with (place / "mlflow.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _reason(error: Exception) -> str:
    """The first line of an error, with a remedy where there is one."""
    text = str(error).strip()
    first = (text.splitlines() or [type(error).__name__])[0]
    if "database is locked" in text:
        return "another program holds it locked; end that one, or wait for it"
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return (
            "it is of another version of MLflow; `mlflow db upgrade` on a copy brings an older one up to date, or move "
            "it away: everything in it is written again from results/"
        )
    return first
