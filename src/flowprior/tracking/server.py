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
from urllib.request import getproxies, proxy_bypass

from flowprior.errors import FlowpriorError

#: Seconds until a server counts as unreachable.
PATIENCE = 5.0
#: Seconds for which a database may be held by another program.
LOCK_PATIENCE = 20.0


class TrackingError(FlowpriorError):
    """The tracking server cannot be reached, or refuses; the records stay as files."""


def tracking_uri(root: Path) -> str:
    """Where records go: MLFLOW_TRACKING_URI if set, else `mlflow.db` in the repository. Files by their whole path."""
    asked = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    relative = asked.startswith("sqlite:///") and not asked.startswith("sqlite:////")
    return f"sqlite:///{(root.resolve() / asked.removeprefix('sqlite:///')).as_posix()}" if relative else asked


@contextmanager
def reached(root: Path) -> Iterator[str]:
    """The address, once it is known that it answers; what MLflow raises inside is one line.

    Two programs that write to the repository's own database take turns: MLflow makes a new database in steps between
    which another must not begin.

    Raises:
        TrackingError: a line that says what is in the way and what to do.
    """
    uri = tracking_uri(root)
    with _said(uri), _turn(root, uri):
        _try_to_write(uri)
        yield uri


@contextmanager
def read(root: Path) -> Iterator[str]:
    """As `reached`, of records that are only looked at.

    Raises:
        TrackingError: as well where nothing was recorded yet.
    """
    uri = tracking_uri(root)
    if is_local(uri) and not _file(uri).exists():
        raise TrackingError("nothing is recorded yet; run an experiment first: make run")
    with _said(uri):
        yield uri


@contextmanager
def _said(uri: str) -> Iterator[None]:
    be_quiet()
    try:
        _knock(uri)
    except OSError as error:
        raise TrackingError(f"no tracking server at {shown(uri)} ({error})") from None
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    # OSError: what a server says that takes no artifacts, a folder that may not be written, a full disk.
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise TrackingError(f"{shown(uri)} cannot be used: {_reason(error, uri)}") from error


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
    if is_local(uri):
        return _file(uri).name
    parts = urlsplit(uri)
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


def _file(uri: str) -> Path:
    """Of a local database."""
    return Path(uri.removeprefix("sqlite:///"))


def _knock(uri: str) -> None:
    """Raise OSError at once where MLflow itself would try for minutes. A server behind a proxy is not knocked at."""
    parts = urlsplit(uri)
    proxied = parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")
    if parts.scheme in ("http", "https") and parts.hostname and not proxied:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=PATIENCE).close()


def _try_to_write(uri: str) -> None:
    """Raise sqlite3.Error where a file is no database, or is held by another program."""
    if not is_local(uri) or not _file(uri).exists():
        return
    with closing(sqlite3.connect(_file(uri), timeout=LOCK_PATIENCE)) as database:
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


def _reason(error: Exception, uri: str) -> str:
    """The first line of an error, with a remedy where there is one."""
    text = str(error).strip()
    if secret := urlsplit(uri).password:
        text = text.replace(f"{urlsplit(uri).username}:{secret}@", "").replace(secret, "...")
    first = (text.splitlines() or [type(error).__name__])[0]
    if "database is locked" in text:
        return "another program holds it locked; end that one, or wait for it"
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return (
            "it is of another version of MLflow; `mlflow db upgrade` on a copy brings an older one up to date, or move "
            "it away: everything in it is written again from results/"
        )
    return first
