"""Files that appear whole or not at all, as readable as any other; and a word on those that can not be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowprior.errors import FlowpriorError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to, renamed to `path` when the block ends well and removed when it does not.

    The temporary name keeps the suffix, by which many writers choose the format. Some make it readable to its owner
    alone; it gets the permissions of any new file in that folder.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replacing(path) as part:
        ...     _ = part.write_text("whole")
        >>> path.read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    # The umask is known only by setting it, for all threads: a new file says as much.
    part.touch()
    mode = stat.S_IMODE(part.stat().st_mode)
    part.unlink()
    try:
        yield part
        if stat.S_IMODE(part.stat().st_mode) != mode:
            part.chmod(mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what keeps a file from being read into a word to the user; that it is missing stays a FileNotFoundError.

    Raises:
        FlowpriorError: this user may not read it, it is a folder, or the disk fails.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except PermissionError:
        raise FlowpriorError(
            f"{path} may not be read by this user; give it and its folder read permission (chmod), or ask their owner"
        ) from None
    except OSError as error:
        raise FlowpriorError(f"{path} is there, but can not be read ({error.strerror}); restore the file") from None
