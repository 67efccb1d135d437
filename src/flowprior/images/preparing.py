"""Preparing: every image of a source decoded, cropped, resized and stored, in bounded memory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowprior.errors import FlowpriorError
from flowprior.images import checksums, decode, store
from flowprior.images.registry import source_of
from flowprior.images.settings import MANIFEST, SPLITS, DataSettings
from flowprior.images.source import Source
from flowprior.progress import Progress

#: Unreadable images beyond this fraction stop the run; a single one never does.
TOLERATED = 0.01
_SHOWN = 10


def prepare(data: DataSettings, out: Path, splits: Sequence[str] = SPLITS) -> dict[str, Any]:
    """Write `<split>.npy` of each split and `manifest.json` into `out`.

    The same raw files and settings give the same bytes. Files are written beside `out` and moved when all is
    well, the manifest last; after an error or an interruption `out` is as it was.

    Args:
        data: source, resolution and limits; a limit takes the first images in the source's order.
        out: folder, usually `prepared/<data.key>`.
        splits: those that are written; of a set of test images alone, `("test",)`.

    Returns:
        The manifest: source, key, settings, checksums of the raw files, what was found in a folder or archive,
        and per split names, count, shape, sha256 and the names of unreadable images.

    Raises:
        FlowpriorError: see `flowprior.images.prepare`.
    """
    out = Path(out)
    with source_of(data) as source, _beside(out) as place:
        source.check()
        manifest = {
            "source": data.source,
            "key": data.key,
            "settings": data.model_dump(exclude={"url"}),
            "checksums": source.checksums(),
            **_told(source.findings()),
            "splits": _write_splits(source, _chosen(source, splits), place),
        }
        store.write_manifest(place / MANIFEST, manifest)
        out.mkdir(parents=True, exist_ok=True)
        (out / MANIFEST).unlink(missing_ok=True)
        for name in (*(f"{split}.npy" for split in splits), MANIFEST):
            (place / name).replace(out / name)
    return manifest


def _told(findings: dict[str, Any]) -> dict[str, Any]:
    """Say what was found, for whoever watches; what the manifest keeps of it."""
    if not findings:
        return {}
    for what in ("found", "ignored"):
        if counts := findings[what]:
            listed = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in counts.items())
            print(f"{what}: {listed}", flush=True)
    for what, meaning in (("unreadable", "can not be read"), ("repeated", "link to images found elsewhere")):
        if names := findings[what]:
            print(f"{len(names)} {meaning}: {_listed(names)}", file=sys.stderr, flush=True)
    print(f"splits: {findings['splits']}", flush=True)
    return {"listing": findings}


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder beside `out`, on the same disk, removed afterwards; what a killed run left goes first."""
    place = out.with_name(f".{out.name}.partial")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _chosen(source: Source, splits: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The images of each split, limits applied."""
    data = source.data
    limits = {"train": data.train, "validation": data.validation, "test": data.test}
    listed = source.splits()
    chosen = {split: tuple(listed.get(split, ()))[: limits[split]] for split in splits}
    for split, names in chosen.items():
        if not names:
            raise FlowpriorError(
                f"source '{data.source}' ({data.raw}) has no {split} images at {data.resolution} px; "
                "every split needs at least one: give more images, or lower data.resolution"
            )
    return chosen


def _write_splits(source: Source, chosen: dict[str, tuple[str, ...]], place: Path) -> dict[str, dict[str, Any]]:
    """Write each split's array; what the manifest says of each."""
    total = sum(map(len, chosen.values()))
    side = source.data.resolution
    progress = Progress(f"prepare {source.data.source}", total)
    unreadable: list[str] = []
    done = 0
    splits = {}
    for split, names in chosen.items():
        path = place / f"{split}.npy"
        lost: list[str] = []
        with store.NpyWriter(path, side) as writer:
            for name in names:
                try:
                    pixels = source.pixels(name)
                except FlowpriorError:
                    raise
                except decode.UNREADABLE as error:
                    print(f"can not read image {name}: {decode.reason(error)}", file=sys.stderr, flush=True)
                    lost.append(name)
                    unreadable.append(name)
                    _stop_if_too_many(unreadable, total)
                else:
                    writer.append(pixels)
                done += 1
                progress.update(done, unreadable=len(unreadable))
        if not writer.count:
            raise FlowpriorError(f"no {split} image can be read: {_listed(lost)}; replace them or remove them")
        missing = set(lost)
        splits[split] = {
            "count": writer.count,
            "shape": [writer.count, side, side, 3],
            "sha256": checksums.of_file(path).partition(":")[2],
            "unreadable": lost,
            "names": [name for name in names if name not in missing],
        }
    return splits


def _stop_if_too_many(unreadable: list[str], total: int) -> None:
    if len(unreadable) > max(1, TOLERATED * total):
        raise FlowpriorError(
            f"{len(unreadable)} images so far of {total} can not be read, more than {TOLERATED:.0%}: "
            f"{_listed(unreadable)}; replace them, remove them, or get the archive again"
        )


def _listed(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
