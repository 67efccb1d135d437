"""Small archives and folders of images for tests."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from flowprior.images.celeba import ARCHIVE, PARTITION


def encoded(seed: int, size: tuple[int, int] = (178, 218), kind: str = "JPEG") -> bytes:
    """A smooth picture of its own for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


def celeba_name(number: int) -> str:
    return f"{number:06}.jpg"


def write_celeba(
    folder: Path,
    counts: tuple[int, int, int] = (6, 3, 4),
    damage: Callable[[str, bytes], bytes | None] = lambda name, content: content,
) -> Path:
    """CelebA's two files with a few pictures; the archive is in backward order of names.

    Args:
        folder: where to.
        counts: images in training, validation and test, numbered from 1.
        damage: (name, content) -> content to store, or None to leave the image out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [part for part, count in enumerate(counts) for _ in range(count)]
    names = [celeba_name(number) for number in range(1, len(parts) + 1)]
    lines = [f"{name} {part}" for name, part in zip(names, parts, strict=True)]
    (folder / PARTITION).write_text("\n".join(lines) + "\n")
    with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
        for number, name in reversed(list(enumerate(names, start=1))):
            content = damage(name, encoded(number))
            if content is not None:
                archive.writestr(f"img_align_celeba/{name}", content)
    return folder


def write_folder(folder: Path, count: int = 60) -> Path:
    """A folder of pictures of several kinds and sizes, without folders for splits."""
    kinds = [("a.png", "PNG"), ("b.jpg", "JPEG"), ("c.webp", "WEBP"), ("d.bmp", "BMP"), ("e.TIFF", "TIFF")]
    for number in range(count):
        ending, kind = kinds[number % len(kinds)]
        path = folder / f"group{number % 3}" / f"{number:03}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number, (40 + number % 7, 36 + number % 5), kind))
    return folder


def zipped(folder: Path, path: Path) -> Path:
    """All files of a folder in an archive, below the folder's own name."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder.parent).as_posix())
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
