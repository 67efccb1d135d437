"""Images in zip archives, read one by one; nothing is ever extracted, so member names can do no harm."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from flowprior.errors import FlowpriorError


def open_archive(path: str | Path, remedy: str = "get it again") -> zipfile.ZipFile:
    """A zip archive, its listing read.

    The listing stands at an archive's end, so that a truncated one is found at once.

    Raises:
        FlowpriorError: it is missing, truncated, or no zip archive.
    """
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise FlowpriorError(f"no archive at {path}; {remedy}") from None
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):
        size = Path(path).stat().st_size
        raise FlowpriorError(
            f"{path} is truncated or no zip archive ({size:,} bytes, no listing at its end); {remedy}"
        ) from None


def member_bytes(archive: zipfile.ZipFile, member: str) -> io.BytesIO:
    """One member, decompressed in memory and checked by its CRC."""
    return io.BytesIO(archive.read(member))
