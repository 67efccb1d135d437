"""Prepared images on the disk: one uint8 `.npy` per split, and a manifest that says what they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from flowprior.errors import FlowpriorError

_HEADER = 128


@dataclass(frozen=True)
class ImageSet:
    """Images with their names.

    Attributes:
        names: one per image, unique within the data set.
        pixels: uint8 (N, H, W, 3); read from the disk as needed, and changes to it never reach the disk.
    """

    names: tuple[str, ...]
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


class NpyWriter:
    """Writes a uint8 (N, side, side, 3) array row by row, N being known only at the end.

    Plain writes, not a memory map: on a full disk a write raises an error where a map would kill the program.
    The header is NPY 1.0 padded to 128 bytes, so that it is filled in last and no version changes it.

    Args:
        path: the file to write.
        side: height and width in pixels.
    """

    def __init__(self, path: Path, side: int) -> None:
        self.count = 0
        self._side = side
        self._file = path.open("wb")
        self._file.write(bytes(_HEADER))

    def append(self, pixels: np.ndarray) -> None:
        """Add one image, uint8 (side, side, 3)."""
        shape = (self._side, self._side, 3)
        if pixels.shape != shape or pixels.dtype != np.uint8:
            raise TypeError(f"expected uint8 {shape}, got {pixels.dtype} {pixels.shape}")
        self._file.write(np.ascontiguousarray(pixels).tobytes())
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._file.write(_npy_header((self.count, self._side, self._side, 3)))


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """Header of a C-ordered uint8 array, 128 bytes (numpy.lib.format, version 1.0)."""
    facts = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    magic = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little")
    return magic + facts.encode().ljust(_HEADER - 11) + b"\n"


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest; the same facts give the same bytes."""
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path, manifest: Path, count: int | None = None) -> ImageSet:
    """The first `count` images of a prepared split, in the split's order.

    Args:
        path: `<split>.npy` as `prepare` wrote it.
        manifest: the `manifest.json` beside it.
        count: how many; None: all.

    Raises:
        FlowpriorError: a file is missing or damaged, or holds fewer images than asked for.
    """
    path, manifest = Path(path), Path(manifest)
    remedy = "prepare the images again"
    try:
        splits = json.loads(manifest.read_text(encoding="utf-8"))["splits"]
        names = tuple(splits[path.stem]["names"])
    except FileNotFoundError:
        raise FlowpriorError(f"no manifest at {manifest}; {remedy}") from None
    except (ValueError, KeyError, TypeError):
        raise FlowpriorError(f"{manifest} says nothing of split '{path.stem}'; {remedy}") from None
    try:
        # Copy-on-write: pages are read when used; torch warns of arrays that it may not write to.
        pixels = np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError:
        raise FlowpriorError(f"no prepared images at {path}; {remedy}") from None
    except (ValueError, EOFError):
        raise FlowpriorError(f"{path} is damaged; {remedy}") from None
    if len(pixels) != len(names):
        raise FlowpriorError(f"{path} holds {len(pixels)} images, its manifest {len(names)}; {remedy}")
    if count is not None and count > len(names):
        raise FlowpriorError(
            f"{count} images asked for, but split '{path.stem}' has {len(names)}: lower {path.stem}_images, "
            f"or raise or remove data.{path.stem}, or give more images (photos: lower data.resolution)"
        )
    return ImageSet(names[:count], pixels[:count])
