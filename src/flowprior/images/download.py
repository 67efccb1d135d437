"""Downloading into a temporary place, checked before it gets its name."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from flowprior.errors import FlowpriorError
from flowprior.images import checksums
from flowprior.progress import Progress

_PIECE = 1 << 20
_SCHEMES = ("https", "http", "file")
_TIMEOUT = 60


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, gone afterwards; so is a `folder` made for it that stays empty."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / ".partial"
    shutil.rmtree(place, ignore_errors=True)  # what a killed run left
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if made and not any(folder.iterdir()):
            folder.rmdir()


def download(url: str, path: Path, checksum: str | None) -> None:
    """Download one file and verify it; the caller gives a path in a staging folder and renames.

    Args:
        url: https, http or file.
        path: where to write.
        checksum: 'sha256:...' or 'md5:...'; None: only the announced length is checked.

    Raises:
        FlowpriorError: the address can not be read, the transfer stopped early, or the checksum is wrong.
    """
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in _SCHEMES:
        raise FlowpriorError(f"data.url must begin with https://, http:// or file://, got '{url}'")
    if checksum is not None:
        checksums.parse(checksum)  # a misspelt checksum is found before the transfer, not after it
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, path.open("wb") as file:
            announced = int(answer.headers.get("Content-Length") or 0)
            done = 0
            progress = Progress(f"download {path.name}, bytes", announced)
            while piece := answer.read(_PIECE):
                file.write(piece)
                done += len(piece)
                if announced:
                    progress.update(done)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise FlowpriorError(
            f"can not download {url}: {reason}; check data.url and the network, or put the file there by hand"
        ) from None
    if announced and done != announced:
        raise FlowpriorError(
            f"download of {url} stopped after {done:,} of {announced:,} bytes; run again, or get it by hand"
        )
    checksums.verify(path, checksum, shown=url)
