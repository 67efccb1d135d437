"""Where images come from, preparing and storing them.

To add a source: write a file with a class that follows `flowprior.images.source.Source`, and add its line
in `registry.py`. Nothing here needs torch, and naming the raw files reads nothing from the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowprior.images.registry import SOURCES, source_of
from flowprior.images.settings import SPLITS

__all__ = ["SOURCES", "fetch", "listing", "load", "names", "prepare", "raw_files", "raw_settings", "source_of"]

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flowprior.images.settings import DataSettings
    from flowprior.images.store import ImageSet


def names() -> tuple[str, ...]:
    """Every registered source."""
    return SOURCES.names()


def raw_files(data: DataSettings) -> list[str]:
    """The files that `prepare` reads, known without looking whether they are there.

    Example:
        >>> from flowprior.images.settings import DataSettings
        >>> raw_files(DataSettings(source="celeba"))
        ['data/celeba/img_align_celeba.zip', 'data/celeba/list_eval_partition.txt']
    """
    return source_of(data).raw_files()


def raw_settings(data: DataSettings) -> dict[str, Any]:
    """The settings that the raw files depend on: changing a resolution or a limit fetches nothing again."""
    return data.model_dump(include={"source", "path", "url", "checksum"})


def listing(data: DataSettings) -> str | None:
    """A fingerprint of the names, sizes and times of change of a person's images; None: the raw files' times tell."""
    with source_of(data) as source:
        return source.listing()


def fetch(data: DataSettings) -> None:
    """Make the raw files that are missing: copied from scikit-image's wheel, or downloaded and verified.

    Raises:
        FlowpriorError: a file is missing and can not be had, or its checksum is wrong; nothing half-written
            stays.
    """
    source_of(data).fetch()


def prepare(data: DataSettings, out: Path, splits: Sequence[str] = SPLITS) -> dict[str, Any]:
    """Write `<split>.npy` of each split and `manifest.json` into `out`; see `flowprior.images.preparing`.

    Returns:
        The manifest.

    Raises:
        FlowpriorError: raw files are missing, truncated or of a wrong checksum, more than 1 % of the images
            (and more than one) can not be read, or a split is empty. `out` is then as it was before.
    """
    from flowprior.images.preparing import prepare

    return prepare(data, out, splits)


def load(path: Path, manifest: Path, count: int | None = None) -> ImageSet:
    """The first `count` images of a prepared split; see `flowprior.images.store.load`."""
    from flowprior.images.store import load

    return load(path, manifest, count)
