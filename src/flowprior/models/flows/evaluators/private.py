"""A folder that nobody but this user can have written to: what is loaded from there as a program runs as this user."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class Folder:
    """A folder that was looked at and is held open, so that it stays the one that was looked at.

    Attributes:
        path: where it is.
        descriptor: the open folder.
    """

    path: Path
    descriptor: int

    def has(self, name: str) -> bool:
        """Whether there is a regular file of this name that only this user can have written; no link."""
        try:
            # A pipe would make us wait.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.descriptor)
        except OSError:
            return False
        try:
            found = os.fstat(file)
            return stat.S_ISREG(found.st_mode) and _is_ours(found)
        finally:
            os.close(file)

    def place(self, name: str) -> str:
        """Path of a file in it, through the open folder where the system has such paths."""
        through = Path("/proc/self/fd") / str(self.descriptor)
        return str((through if through.is_dir() else self.path) / name)

    def adopt(self, part: str, name: str) -> None:
        """Give a new file its name, written by this user alone whatever the umask was."""
        os.chmod(part, 0o600, dir_fd=self.descriptor)
        os.replace(part, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)


@contextmanager
def cached() -> Iterator[Folder]:
    """The project's folder in the user's cache, made if it is missing.

    Raises:
        OSError: it, or the cache it is in, is not this user's alone, or can not be made.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():
        # As root with another's home: what root leaves there, its owner could not use.
        _check(Path.home(), Path.home().stat(), stat.S_IWOTH)
        home = Path.home() / ".cache"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A group may write here, as in many homes: it can put another folder in place of ours, but none that is ours.
    _check(home, home.stat(), stat.S_IWOTH)
    path = home / "flowprior"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    with _opened(path) as folder:
        yield folder


@contextmanager
def temporary() -> Iterator[Folder]:
    """A new folder with a name that nobody can guess, removed in the end."""
    with tempfile.TemporaryDirectory(prefix="flowprior-") as path, _opened(Path(path)) as folder:
        yield folder


@contextmanager
def _opened(path: Path) -> Iterator[Folder]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _check(path, os.fstat(descriptor), _OTHERS_WRITE)
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _check(path: Path, found: os.stat_result, unwanted: int) -> None:
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}")
    if found.st_mode & unwanted:
        raise PermissionError(f"others may write to {path} ({stat.filemode(found.st_mode)}); chmod go-w it")


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE
