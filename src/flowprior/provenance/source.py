"""Which source tree something was made by."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import NamedTuple

#: What stands for changes that could not be looked at: git refused, or took too long.
UNKNOWN = "unknown"
#: What a run itself writes and git tracks (metrics, lock) is its result, not its source.
DIFF = ("diff", "--no-ext-diff", "--no-color", "HEAD", "--", ".", ":!results", ":!dvc.lock")
_PATIENCE = 60.0


class Commit(NamedTuple):
    """State of a source tree.

    Attributes:
        name: the commit; None outside a repository, or where there is no git.
        diff: sha256 of what was changed in tracked files since, as git prints it; None where nothing was, `UNKNOWN`
            where that is not known.
    """

    name: str | None
    diff: str | None = None

    @property
    def changed(self) -> bool:
        """Whether something was changed, as far as is known."""
        return self.diff not in (None, UNKNOWN)


def commit(root: Path) -> Commit:
    """The commit of a repository, and what was changed in tracked files since. Never raises."""
    name = _git(root, "rev-parse", "HEAD")
    if not name:
        return Commit(None)
    changes = _git(root, *DIFF)
    diff = UNKNOWN if changes is None else hashlib.sha256(changes).hexdigest() if changes else None
    return Commit(name.decode().strip(), diff)


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git prints, as it is: files of any encoding may be in it; None where it failed."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
