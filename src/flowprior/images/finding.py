"""Which files of a folder or an archive are images, each once, and what else lies there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowprior.fingerprint import fingerprint

#: Of what pillow reads, the pictures.
ENDINGS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".jp2", ".j2k", ".gif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)


@dataclass(frozen=True)
class Found:
    """What lies below a folder or in an archive.

    Attributes:
        images: name -> where its bytes are: a path, or a member of the archive. Names are paths with '/',
            relative to the folder, sorted.
        ignored: ending -> how many files with it are no images; '' for none. Hidden files are not counted.
        unreadable: sub-folders that may not be read and links that lead nowhere.
        repeated: links to what is found elsewhere below the folder, under another name.
    """

    images: dict[str, str]
    ignored: dict[str, int] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """For a manifest: images per ending, and the rest."""
        return {
            "found": _sorted(Counter(_ending(name) for name in self.images)),
            "ignored": self.ignored,
            "unreadable": list(self.unreadable),
            "repeated": list(self.repeated),
        }

    def fingerprint(self) -> str:
        """Of names, sizes and times of change: another one when an image is added, replaced or removed."""
        return fingerprint([(name, *_size_and_time(path)) for name, path in self.images.items()])


def in_folder(folder: str | Path) -> Found:
    """Every image below a folder. Links are followed; what several names lead to is found once, best not by a link."""
    files, unreadable, repeated = _walk(str(folder))
    return _sifted({name: os.path.join(folder, name) for name in files}, unreadable, repeated)  # noqa: PTH118 - a great many


def in_archive(members: Iterable[str]) -> Found:
    r"""Every image of an archive, given its members; a '\' of a program for Windows separates folders too.

    Example:
        >>> in_archive(["set\\train\\a.png", "set/", "set/notes.txt"])
        Found(images={'set/train/a.png': 'set\\train\\a.png'}, ignored={'.txt': 1}, unreadable=(), repeated=())
    """
    return _sifted({member.replace("\\", "/"): member for member in members if member[-1:] not in "/\\"})


def _sifted(files: dict[str, str], unreadable: Iterable[str] = (), repeated: Iterable[str] = ()) -> Found:
    shown = sorted(name for name in files if not _hidden(name))
    images = {name: files[name] for name in shown if _ending(name) in ENDINGS}
    ignored = Counter(_ending(name) for name in shown if name not in images)
    return Found(images, _sorted(ignored), tuple(sorted(unreadable)), tuple(sorted(repeated)))


def _walk(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Names of all files, of what can not be read, and of links to what is there anyway.

    First everything that is no link, then the links in the order of their names.
    """
    files: list[str] = []
    unreadable: list[str] = []
    repeated: list[str] = []
    seen: set[tuple[int, int]] = set()
    folders: list[str] = [""]
    links: list[str] = []
    while folders or links:
        inner = folders.pop() if folders else links.pop(0)
        try:
            state = os.stat(os.path.join(folder, inner))  # noqa: PTH116, PTH118 - hundreds of thousands
            if (state.st_dev, state.st_ino) in seen:
                repeated.append(inner)
                continue
            seen.add((state.st_dev, state.st_ino))
            if os.path.isfile(os.path.join(folder, inner)):  # noqa: PTH113, PTH118
                files.append(inner)
                continue
            entries = _entries(os.path.join(folder, inner))  # noqa: PTH118
        except OSError:
            unreadable.append(inner)
            continue
        for entry in entries:
            name = f"{inner}/{entry.name}" if inner else entry.name
            if _hidden(entry.name):
                continue
            if entry.is_symlink():
                links.append(name)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif entry.is_file(follow_symlinks=False):
                key = (state.st_dev, entry.inode())
                (repeated if key in seen else files).append(name)
                seen.add(key)
        links.sort()
    return files, unreadable, repeated


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return iter(sorted(entries, key=lambda entry: entry.name))


def _hidden(name: str) -> bool:
    """Whether a name is one of those that file managers hide or add."""
    return any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in name.split("/"))


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a great many


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        state = os.stat(path)  # noqa: PTH116
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
