"""Which source tree something was made by."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import NamedTuple


class Commit(NamedTuple):
    """State of a source tree.

    Attributes:
        name: the commit; None outside a repository.
        changed: whether tracked files were changed since.
        diff: sha256 of what was changed, as `git diff HEAD` prints it; None where nothing was.
    """

    name: str | None
    changed: bool
    diff: str | None = None


def commit(root: Path) -> Commit:
    """The commit of a repository, and what was changed in tracked files since."""
    name = _git(root, "rev-parse", "HEAD").strip()
    if not name:
        return Commit(None, False)
    # What a run itself writes and git tracks (metrics, lock) is its result, not its source.
    changes = _git(root, "diff", "HEAD", "--", ".", ":!results", ":!dvc.lock")
    return Commit(name, bool(changes), hashlib.sha256(changes.encode()).hexdigest() if changes else None)


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
