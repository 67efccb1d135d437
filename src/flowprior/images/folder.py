"""Any folder or zip archive of images."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flowprior.errors import FlowpriorError
from flowprior.images import archive, checksums, decode, finding, splitting
from flowprior.images.source import Source


class Folder(Source):
    """Every image below `data.path`, a folder or a `.zip`; names are paths relative to it.

    Folders that are named after splits, at any depth, are the splits. Without them an image's split
    follows from a hash of its name, so that adding images moves none. See `splitting.divide`.
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
        for name in self._found.images:
            try:
                line = checksums.of_file(Path(self.data.raw, name))
            except OSError:  # counted as unreadable when its turn comes
                line = "unreadable"
            digest.update(f"{line}  {name}\n".encode())
        return {checksums.base_name(self.data.raw): f"sha256:{digest.hexdigest()}"}

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Names by folder or by hash, in the order of names."""
        return self._division.splits

    def findings(self) -> dict[str, Any]:
        """What was found and ignored, by ending; what could not be read; how splits were decided."""
        return {**self._found.facts(), "splits": self._division.decided}

    def listing(self) -> str | None:
        """A fingerprint of names, sizes and times of change; None of an archive, whose own time tells."""
        return self._found.fingerprint() if Path(self.data.raw).is_dir() else None

    def pixels(self, name: str) -> np.ndarray:
        """Upright, RGB, shorter side resized, centre cropped."""
        if self._archive is not None:
            image = decode.open_rgb(archive.member_bytes(self._archive, self._found.images[name]))
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
    def _found(self) -> finding.Found:
        raw = self.data.raw
        found = finding.in_folder(raw) if self._archive is None else finding.in_archive(self._archive.namelist())
        if "" in found.unreadable:
            raise FlowpriorError(f"folder {raw} may not be read by this user; give it read permission (chmod)")
        if odd := [name for name in found.images if not _is_text(name)]:
            shown = odd[0].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise FlowpriorError(f"{len(odd)} names below {raw} are not UTF-8 ({shown}, ...); rename them")
        return found

    @cached_property
    def _division(self) -> splitting.Division:
        names = tuple(self._found.images)
        if not names:
            others = ", ".join(f"{count} {ending or 'without'}" for ending, count in self._found.ignored.items())
            beside = f" (ignored: {others})" if others else ""
            raise FlowpriorError(
                f"no images below {self.data.raw}{beside}; known endings: {', '.join(finding.ENDINGS)}"
            )
        return splitting.divide(names, self.data.raw, self.data.splits)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
