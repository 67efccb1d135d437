"""Which files below a folder or in an archive are images, and which split each belongs to."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowprior.errors import FlowpriorError
from flowprior.images.settings import SPLITS

#: What Pillow reads without help.
ENDINGS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".tga"),
)
#: Words that name a split.
WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_SHOWN = 5


@dataclass
class Found:
    """What lies below a folder or in an archive.

    Attributes:
        images: name, with slashes, relative to it -> path or archive member.
        ignored: ending -> files of it that are no images, or none that can be read.
        closed: folders that may not be read, and links that lead nowhere.
    """

    images: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    closed: list[str] = field(default_factory=list)

    def add(self, name: str, place: str) -> None:
        """Count a file, as an image or by its ending."""
        parts = name.split("/")
        if any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in parts):
            return  # what file managers hide or add
        if not name.isprintable() or any("\ud800" <= sign <= "\udfff" for sign in name):
            self.closed.append(f"{name.encode('utf-8', 'backslashreplace').decode()} (no UTF-8 name; rename it)")
        elif name.lower().endswith(ENDINGS):
            self.images[name] = place
        else:
            self.ignored[Path(parts[-1]).suffix.lower() or "(no ending)"] += 1

    @property
    def endings(self) -> dict[str, int]:
        """Ending -> how many images have it."""
        return dict(sorted(Counter(Path(name).suffix.lower() for name in self.images).items()))


def below(root: Path) -> Found:
    """Every file below a folder; links are followed, each folder they lead to once."""
    found, seen = Found(), {os.path.realpath(root)}
    waiting = [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            found.closed.append(prefix.rstrip("/") or ".")
            continue
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in seen:
                    seen.add(real)
                    waiting.append((Path(entry.path), f"{name}/"))
            elif entry.is_file():
                found.add(name, entry.path)
            else:
                found.closed.append(name)
    return found


def in_archive(members: Iterable[str]) -> Found:
    """Every member of an archive; one that was made on Windows may have backslashes in its names."""
    found = Found()
    for member in sorted(members):
        name = member.replace("\\", "/")
        if not name.endswith("/"):
            found.add(name, member)
    return found


def split_named_by(folder: str) -> str | None:
    """The split that a folder's name stands for: a word of its own, however the others are joined to it.

    Example:
        >>> [split_named_by(name) for name in ("DIV2K_train_HR", "val2017", "TestSet", "contest", "trains")]
        ['train', 'validation', 'test', None, None]
    """
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", folder)
    named = {WORDS[word.lower()] for word in words if word.lower() in WORDS}
    return named.pop() if len(named) == 1 else None


def splits_by_folder(names: Iterable[str], where: str) -> Mapping[str, tuple[str, ...]] | None:
    """Names by the splits that their folders name, at any depth; None where no folder names one.

    Raises:
        FlowpriorError: some images lie in no such folder, or in two that disagree.
    """
    folders = {name: name.split("/")[:-1] for name in sorted(names)}
    first, last = min(folders.values()), max(folders.values())
    shared = next((i for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    shared = min(shared, len(last))
    inner = {name: _splits(parts[shared:]) for name, parts in folders.items()}
    if not any(inner.values()):
        # A folder around all images may name a split itself.
        inner = {name: _splits(parts) for name, parts in folders.items()}
        if not any(inner.values()):
            return None
    way_out = "rename the folder, or set data.splits: hash to divide all images by their names"
    for name, found in inner.items():
        if len(found) > 1:
            raise FlowpriorError(
                f"{where}: the folders of {name} name two splits, {' and '.join(sorted(found))}; {way_out}"
            )
    outside = [name for name, found in inner.items() if not found]
    if outside:
        kinds = sorted({kind for found in inner.values() for kind in found})
        raise FlowpriorError(
            f"{where} has folders for splits ({', '.join(kinds)}), but {len(outside)} images lie outside of them "
            f"({outside[0]}, ...); move them into train, validation or test, {way_out}"
        )
    return {split: tuple(name for name, found in inner.items() if found == {split}) for split in SPLITS}


def _splits(parts: Iterable[str]) -> set[str]:
    return {split for split in map(split_named_by, parts) if split is not None}


def said(found: Found, decided: str) -> list[str]:
    """What a person should know of what was found, a line each."""
    lines = [f"found {len(found.images)} images ({_counts(found.endings)}); splits {decided}"]
    if found.ignored:
        lines.append(f"ignored by ending: {_counts(found.ignored)}")
    if found.closed:
        more = f" and {len(found.closed) - _SHOWN} more" if len(found.closed) > _SHOWN else ""
        lines.append(f"can not be read: {', '.join(found.closed[:_SHOWN])}{more}")
    return lines


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in sorted(numbers.items()))
