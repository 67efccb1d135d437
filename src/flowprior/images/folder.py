"""Any folder or zip archive of images."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flowprior.errors import FlowpriorError
from flowprior.fingerprint import fingerprint
from flowprior.images import archive, checksums, decode
from flowprior.images.finding import ENDINGS, Found, below, in_archive, said, splits_by_folder
from flowprior.images.settings import SPLITS
from flowprior.images.source import Source


class Folder(Source):
    """Every image below `data.path`, a folder or a `.zip`; names are paths relative to it.

    Folders whose names hold the word train, validation (valid, val, dev) or test are the splits, at any depth
    (`flowprior.images.finding`). Without them, or with `data.splits: hash`, an image's split follows from a hash of its
    name (see `split_of`), so that adding images moves none.
    """

    def raw_files(self) -> list[str]:
        """The folder or archive itself."""
        return [self.data.raw]

    def check(self) -> None:
        """See that it is there, and what it is."""
        raw = Path(self.data.raw)
        if not raw.exists():
            raise FlowpriorError(f"no images at {raw}; name a folder or a zip archive of images in data.path")
        if raw.is_dir():
            self.no_checksum_expected()
        else:
            _ = self._archive

    def checksums(self) -> dict[str, str]:
        """The archive's checksum; of a folder one over the names and checksums of all its images."""
        if self._archive is not None:
            return super().checksums()
        digest = hashlib.sha256()
        for name, line in sorted(self._digests.items()):
            digest.update(f"{line}  ".encode() + os.fsencode(name) + b"\n")
        return {checksums.base_name(self.data.raw): f"sha256:{digest.hexdigest()}"}

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Names by folder or by hash, in the order of names."""
        return self._splits[0]

    def found(self) -> dict[str, Any]:
        """Images and ignored files by ending, what may not be read, how splits were decided, and pictures in two."""
        files, (splits, decided) = self._files, self._splits
        for line in said(files, decided):
            print(line, file=sys.stderr, flush=True)
        twice = self._in_two_splits(splits)
        if twice:
            pairs = ", ".join(f"{one} = {other}" for one, other in twice[:3])
            print(f"{len(twice)} pictures stand in two splits, byte by byte: {pairs}", file=sys.stderr, flush=True)
        return {
            "endings": files.endings,
            "ignored": dict(sorted(files.ignored.items())),
            "closed": files.closed,
            "splits": decided,
            "in_two_splits": twice,
        }

    def listing(self) -> str | None:
        """Changes when a file below the folder comes, goes, or is written again."""
        if not Path(self.data.raw).is_dir():
            return None
        facts = []
        for name, path in sorted(self._files.images.items()):
            try:
                stat = Path(path).stat()
                facts.append((name, stat.st_size, stat.st_mtime_ns))
            except OSError:
                facts.append((name, -1, -1))
        return fingerprint([[os.fsencode(name).hex(), size, time] for name, size, time in facts])

    def pixels(self, name: str) -> np.ndarray:
        """Upright, RGB, shorter side resized, centre cropped."""
        place, white = self._files.images[name], self.data.white
        if self._archive is not None:
            image = decode.open_rgb(archive.member_bytes(self._archive, place), white)
        else:
            with Path(place).open("rb") as file:
                image = decode.open_rgb(file, white)
        return decode.square(image, self.data.resolution)

    def close(self) -> None:
        """Close the archive, if there is one."""
        opened = self.__dict__.get("_archive")
        if opened is not None:
            opened.close()

    @cached_property
    def _archive(self) -> zipfile.ZipFile | None:
        if Path(self.data.raw).is_dir():
            return None
        return archive.open_archive(self.data.raw, "data.path must be a folder or a whole zip archive")

    @cached_property
    def _files(self) -> Found:
        return below(Path(self.data.raw)) if self._archive is None else in_archive(self._archive.namelist())

    @cached_property
    def _splits(self) -> tuple[Mapping[str, tuple[str, ...]], str]:
        """Names of each split, and how that was decided."""
        names, raw = sorted(self._files.images), self.data.raw
        if not names:
            ignored = f"; {sum(self._files.ignored.values())} other files lie there" if self._files.ignored else ""
            raise FlowpriorError(f"no images below {raw}{ignored}; known endings: {', '.join(ENDINGS)}")
        by_folder = splits_by_folder(names, raw) if self.data.splits == "folders" else None
        if by_folder is not None:
            return by_folder, "by folder"
        by_hash = {split: tuple(name for name in names if split_of(name) == split) for split in SPLITS}
        return by_hash, "by a hash of each name"

    @cached_property
    def _digests(self) -> dict[str, str]:
        """Checksum of each image of a folder; of what can not be read, that."""
        found = {}
        for name, path in self._files.images.items():
            try:
                found[name] = checksums.of_file(path)
            except OSError:  # counted as unreadable when its turn comes
                found[name] = "unreadable"
        return found

    def _in_two_splits(self, splits: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
        """Pairs of images of different splits that are the same file: what is tested on was trained on."""
        if self._archive is None:
            content: dict[str, Any] = {**self._digests}
        else:
            infos = {info.filename: (info.CRC, info.file_size) for info in self._archive.infolist()}
            content = {name: infos[member] for name, member in self._files.images.items()}
        first: dict[Any, tuple[str, str]] = {}
        twice = []
        for split, names in splits.items():
            for name in names:
                other, there = first.setdefault(content[name], (name, split))
                if there != split and content[name] != "unreadable":
                    twice.append((other, name))
        return twice


def split_of(name: str) -> str:
    """Split of an image that lies in no split's folder: sha256 of its name modulo 10.

    0 is test, 1 is validation, all others are training.

    Example:
        >>> [split_of(f"{i}.png") for i in range(4)]
        ['train', 'test', 'train', 'train']
    """
    bucket = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") % 10
    return {0: "test", 1: "validation"}.get(bucket, "train")
