"""Any folder or zip archive of images."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from flowprior.errors import FlowpriorError
from flowprior.images import archive, checksums, decode
from flowprior.images.settings import SPLITS
from flowprior.images.source import Source

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
#: Names of sub-folders that are splits.
FOLDERS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}


class Folder(Source):
    """Every image below `data.path`, a folder or a `.zip`; names are paths relative to it.

    Sub-folders train, validation (or valid, val) and test are the splits. Without them an image's split
    follows from a hash of its name (see `split_of`), so that adding images moves none.
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
        for name in self._names:
            try:
                line = checksums.of_file(Path(self.data.raw, name))
            except OSError:  # counted as unreadable when its turn comes
                line = "unreadable"
            digest.update(f"{line}  {name}\n".encode())
        return {checksums.base_name(self.data.raw): f"sha256:{digest.hexdigest()}"}

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Names by sub-folder or by hash, in the order of names."""
        names = self._names
        if not names:
            raise FlowpriorError(f"no images below {self.data.raw}; known endings: {', '.join(ENDINGS)}")
        inner = _common_folder(names)
        by_folder = {name: FOLDERS.get(_first_folder(name, inner)) for name in names}
        if not any(by_folder.values()):
            return {split: tuple(name for name in names if split_of(name) == split) for split in SPLITS}
        outside = [name for name, split in by_folder.items() if split is None]
        if outside:
            raise FlowpriorError(
                f"{self.data.raw} has folders for splits, but {len(outside)} images lie outside of them "
                f"({outside[0]}, ...); move them into train, validation or test"
            )
        return {split: tuple(name for name in names if by_folder[name] == split) for split in SPLITS}

    def pixels(self, name: str) -> np.ndarray:
        """Upright, RGB, shorter side resized, centre cropped."""
        if self._archive is not None:
            image = decode.open_rgb(archive.member_bytes(self._archive, name))
        else:
            with Path(self.data.raw, name).open("rb") as file:
                image = decode.open_rgb(file)
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
    def _names(self) -> tuple[str, ...]:
        if self._archive is not None:
            found = set(self._archive.namelist())
        else:
            raw = Path(self.data.raw)
            found = {path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file()}
        return tuple(sorted(name for name in found if _is_image(name)))


def split_of(name: str) -> str:
    """Split of an image that lies in no split's folder: sha256 of its name modulo 10.

    0 is test, 1 is validation, all others are training.

    Example:
        >>> [split_of(f"{i}.png") for i in range(4)]
        ['train', 'test', 'train', 'train']
    """
    bucket = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10
    return {0: "test", 1: "validation"}.get(bucket, "train")


def _is_image(name: str) -> bool:
    """Whether a name is an image's; what file managers hide or add is not."""
    parts = name.split("/")
    hidden = any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in parts)
    return name.lower().endswith(ENDINGS) and not hidden


def _common_folder(names: tuple[str, ...]) -> str:
    """The one folder that all lie in, as archives often have it; '' where there is none or it is a split."""
    firsts = {name.partition("/")[0] for name in names if "/" in name}
    if len(firsts) == 1 and all("/" in name for name in names) and not firsts & FOLDERS.keys():
        return firsts.pop() + "/"
    return ""


def _first_folder(name: str, inner: str) -> str:
    folder, slash, _ = name.removeprefix(inner).partition("/")
    return folder.lower() if slash else ""
