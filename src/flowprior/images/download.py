"""Downloading into a temporary place, checked before it gets its name; a transfer that fails is begun again."""

from __future__ import annotations

import contextlib
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from flowprior.errors import FlowpriorError
from flowprior.images import checksums

_SCHEMES = ("https", "http", "file")


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
        FlowpriorError: the address can not be read, the transfer stopped early three times, or the checksum is wrong.
    """
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in _SCHEMES:
        raise FlowpriorError(f"data.url must begin with https://, http:// or file://, got '{url}'")
    if checksum is not None:
        checksums.parse(checksum)  # a misspelt checksum is found before the transfer, not after it
    # Not at the top: they cost each start of Snakemake a quarter of a second.
    import pooch
    from requests import RequestException

    by_http = pooch.HTTPDownloader(sys.stderr.isatty(), chunk_size=1 << 20, timeout=60)
    # Its checksum is verified below: pooch would get a file of gigabytes again whose checksum was written down wrong.
    files = pooch.create(path.parent, "", registry={path.name: None}, urls={path.name: url}, retry_if_failed=2)
    try:
        files.fetch(path.name, downloader=_copy if scheme == "file" else by_http)
    except (RequestException, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or error
        raise FlowpriorError(
            f"can not download {url}: {reason}; check data.url and the network, or put the file there by hand"
        ) from None
    checksums.verify(path, checksum, shown=url)


def _copy(url: str, target: str, _: object) -> None:
    """What pooch has no downloader for: a file:// address."""
    with urllib.request.urlopen(url) as source, Path(target).open("wb") as file:
        shutil.copyfileobj(source, file)
