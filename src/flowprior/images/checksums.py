"""Checksums of files, written as 'algorithm:hexadecimal digits'."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from flowprior.errors import FlowpriorError, UnknownNameError

#: Algorithm -> hexadecimal digits. md5 stands here because CelebA's authors publish no other.
ALGORITHMS = {"sha256": 64, "md5": 32}


def base_name(path: str) -> str:
    """The last part of a path, whatever folder it lies in."""
    return os.path.basename(os.path.normpath(path))  # noqa: PTH119 - a path as text, as raw_files gives it


def parse(checksum: str) -> tuple[str, str]:
    """Algorithm and digits of a checksum.

    Raises:
        FlowpriorError: the text is no checksum.

    Example:
        >>> parse("md5:00D2C5BC6D35E252742224AB0C1E8FCB")
        ('md5', '00d2c5bc6d35e252742224ab0c1e8fcb')
    """
    algorithm, colon, digits = checksum.strip().lower().partition(":")
    if colon and algorithm not in ALGORITHMS:
        raise UnknownNameError("checksum algorithm", algorithm, ALGORITHMS)
    if not colon or not re.fullmatch(rf"[0-9a-f]{{{ALGORITHMS[algorithm]}}}", digits):
        raise FlowpriorError(f"checksum must be 'sha256:' and 64 or 'md5:' and 32 hexadecimal digits, got '{checksum}'")
    return algorithm, digits


def of_file(path: str | Path, algorithm: str = "sha256") -> str:
    """Checksum of a file, read once and in pieces."""
    with Path(path).open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def verify(path: str | Path, expected: str | None, shown: str | None = None) -> str:
    """The sha256 of a file, after comparing it with what is expected.

    Args:
        path: the file.
        expected: 'sha256:...' or 'md5:...'; None: nothing is expected.
        shown: how a message names the file, when not by its path.

    Returns:
        'sha256:...', whatever algorithm was expected.

    Raises:
        FlowpriorError: the checksum differs, naming both.
    """
    found = of_file(path)
    if expected is not None:
        algorithm, digits = parse(expected)
        given = found if algorithm == "sha256" else of_file(path, algorithm)
        if given != f"{algorithm}:{digits}":
            raise FlowpriorError(
                f"wrong checksum of {shown or path}: expected {algorithm}:{digits}, got {given}; "
                "the file is damaged or another one: get it again, or correct the checksum"
            )
    return found
