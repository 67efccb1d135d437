"""What every source of images offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

from flowprior.errors import FlowpriorError
from flowprior.images import checksums
from flowprior.images.settings import DataSettings


class Source(ABC):
    """Images by name, in three splits. A context manager: archives are opened on entry and closed on exit.

    Args:
        data: the settings; making a source reads nothing from the disk.
    """

    #: Whether `splits` knows the images before they are fetched.
    known_before_fetching: ClassVar[bool] = False

    def __init__(self, data: DataSettings) -> None:
        self.data = data

    @abstractmethod
    def raw_files(self) -> list[str]:
        """Paths of the files that are read."""

    def fetch(self) -> None:
        """Make the raw files that are missing; here: there is no way, so say what is missing."""
        self.check()

    @abstractmethod
    def check(self) -> None:
        """See that the raw files are there.

        Raises:
            FlowpriorError: naming the first that is missing, and the remedy.
        """

    def checksums(self) -> dict[str, str]:
        """File name -> 'sha256:...' of the raw files, verified against what is expected of them.

        Raises:
            FlowpriorError: a checksum is wrong.
        """
        return {
            checksums.base_name(path): checksums.verify(path, self.expected_checksum(path)) for path in self.raw_files()
        }

    def expected_checksum(self, path: str) -> str | None:
        """What a raw file's checksum has to be, None where unknown; here the first's `data.checksum`."""
        return self.data.checksum if path == self.raw_files()[0] else None

    @abstractmethod
    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Split -> names of its images, in the order in which they are stored and a limit takes the first.

        Raises:
            FlowpriorError: the listing can not be read.
        """

    @abstractmethod
    def pixels(self, name: str) -> np.ndarray:
        """One image, decoded, cropped and resized: uint8 (resolution, resolution, 3).

        Raises:
            FlowpriorError: the source itself is at fault, so that all stops.
            Exception: one of `decode.UNREADABLE`; the image is counted and left out.
        """

    def findings(self) -> dict[str, Any]:
        """What a manifest keeps of how images were found; here nothing, as a source's files are known by name."""
        return {}

    def listing(self) -> str | None:
        """A fingerprint that changes with the images below `data.path`; None where the raw files' times tell."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - a source with nothing open has nothing to close
        """Close what was opened."""

    def no_checksum_expected(self) -> None:
        """For sources that are no archive: `data.checksum` would be ignored, so it is an error."""
        if self.data.checksum is not None:
            raise FlowpriorError(
                f"data.checksum is for one archive, and source '{self.data.source}' reads none: leave it out"
            )
