"""CelebA, aligned: the official archive and partition file, read where they lie or downloaded."""

from __future__ import annotations

import urllib.parse
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from flowprior.errors import FlowpriorError
from flowprior.images import archive, decode
from flowprior.images.download import download, staging
from flowprior.images.settings import SPLITS
from flowprior.images.source import Source

ARCHIVE = "img_align_celeba.zip"
PARTITION = "list_eval_partition.txt"
#: Of the official files with all 202,599 images; the authors publish md5 alone.
OFFICIAL = {
    ARCHIVE: "md5:00d2c5bc6d35e252742224ab0c1e8fcb",
    PARTITION: "md5:d32c9cbf5e040fd4025c592c306e6668",
}


class CelebA(Source):
    """`img_align_celeba.zip` and `list_eval_partition.txt` in a folder; `data.path` names it or the archive.

    The partition file decides what is read, so that a part of CelebA in the same layout is read by the same
    code. Images come in the order of their names; paper A's test set is the first 192 of split test.
    """

    def raw_files(self) -> list[str]:
        """The archive, then the partition file."""
        raw = Path(self.data.raw)
        if raw.suffix.lower() == ".zip":
            return [raw.as_posix(), raw.with_name(PARTITION).as_posix()]
        return [(raw / ARCHIVE).as_posix(), (raw / PARTITION).as_posix()]

    def check(self) -> None:
        """See that both files are there and that the archive is whole enough to be listed."""
        for path in self.raw_files():
            if not Path(path).is_file():
                raise FlowpriorError(
                    f"no CelebA file at {path}; put {ARCHIVE} and {PARTITION} of the official release there, "
                    "or name their folder in data.path, or give data.url to download them"
                )
        _ = self._archive

    def fetch(self) -> None:
        """Download what is missing: the archive from `data.url`, the partition file from beside it.

        The archive has to be the official one unless `data.checksum` names another.
        """
        missing = [Path(path) for path in self.raw_files() if not Path(path).is_file()]
        if not missing or self.data.url is None:
            return self.check()
        if self.data.path is not None:
            raise FlowpriorError(
                f"no CelebA file at {missing[0]}; data.path is only read: put it there, or leave data.path "
                f"out so that it is downloaded to data/{self.data.source}"
            )
        official = self.data.checksum in (None, OFFICIAL[ARCHIVE])
        with staging(missing[0].parent) as place:
            for path in missing:
                if path.name == PARTITION:
                    url = urllib.parse.urljoin(self.data.url, PARTITION)
                    download(url, place / path.name, OFFICIAL[PARTITION] if official else None)
                else:
                    download(self.data.url, place / path.name, self.data.checksum or OFFICIAL[ARCHIVE])
                    archive.open_archive(place / path.name, "data.url is no zip archive").close()
            for path in missing:
                (place / path.name).replace(path)

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """The partition file's three parts, each in the order of names."""
        path = self.raw_files()[1]
        parts: dict[str, list[str]] = {split: [] for split in SPLITS}
        try:
            lines = Path(path).read_text(encoding="ascii").splitlines()
        except UnicodeDecodeError:
            raise FlowpriorError(f"{path} is no text of lines such as '000001.jpg 0'; get it again") from None
        for number, line in enumerate(lines, start=1):
            fields = line.split()
            if not fields:
                continue
            if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
                raise FlowpriorError(
                    f"{path}, line {number} must be an image and 0, 1 or 2 ('1.jpg 0'), got '{line[:40]}'"
                )
            parts[SPLITS[int(fields[1])]].append(fields[0])
        return {split: tuple(sorted(set(names))) for split, names in parts.items()}

    def pixels(self, name: str) -> np.ndarray:
        """Shorter side resized, centre cropped, as paper A."""
        member = self._members.get(name)
        if member is None:
            raise OSError("it is not in the archive")
        return decode.square(decode.open_rgb(archive.member_bytes(self._archive, member)), self.data.resolution)

    def close(self) -> None:
        """Close the archive."""
        if "_archive" in self.__dict__:
            self._archive.close()

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return archive.open_archive(self.raw_files()[0], "get it again")

    @cached_property
    def _members(self) -> dict[str, str]:
        """Image name -> member; the folder inside the archive does not matter."""
        return {member.rpartition("/")[2]: member for member in self._archive.namelist()}
