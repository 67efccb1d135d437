"""Which split an image belongs to: by a folder of its path, at any depth, or by a hash of its name."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from flowprior.errors import FlowpriorError
from flowprior.images.settings import SPLITS

#: A word in a folder's name -> the split that it means.
WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "validating": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "holdout": "test",
}
#: What is written behind such a word without anything between.
_JOINED = re.compile("(set|data|dataset|images?|imgs?|pictures?|photos?|files?|hr|lr)$")
_HASH = "set data.splits: hash to divide all images by their names"


@dataclass(frozen=True)
class Division:
    """Images in three splits.

    Attributes:
        splits: split -> names, in their order.
        decided: how, in words, for a person and a manifest.
    """

    splits: Mapping[str, tuple[str, ...]]
    decided: str


def divide(names: Sequence[str], place: str, asked: str | None = None) -> Division:
    r"""Divide images by the folders that they lie in, or by `split_of`.

    Args:
        names: paths relative to the folder or archive, with '/' or '\\'.
        place: how messages name the folder or archive.
        asked: `data.splits`. None: by folders where every path names one split, by hash where none looks as if.

    Raises:
        FlowpriorError: a path names two splits or none where others name one; a split has no folder.
    """
    if asked == "hash":
        return _by_hash(names)
    if asked == "test":
        return Division({"train": (), "validation": (), "test": tuple(names)}, "all are test images, as asked")
    places = {name: _folders(name) for name in names}
    shared = len(os.path.commonprefix(list(places.values())))  # noqa: RUF071 - of tuples, part by part
    named = {name: _named(folders[shared:]) for name, folders in places.items()}
    if not any(named.values()):  # what all share tells them apart only where it says that all are one split
        named = {name: _named(folders) for name, folders in places.items()}
    if not any(named.values()):
        if asked == "folders":
            raise FlowpriorError(
                f"data.splits is folders, and no folder below {place} is named train, validation or test; {_HASH}"
            )
        _refuse_split_files(names, place)
        return _by_hash(names)
    outside = [name for name, folders in named.items() if not folders]
    if outside:
        raise FlowpriorError(
            f"{place} has folders for splits ({_example(named)}), but {len(outside)} images lie outside of them "
            f"({outside[0]}, ...); move them into train, validation or test, or {_HASH}"
        )
    for name, folders in named.items():
        if asked is None and len({split for _, split in folders}) > 1:
            (first, _), (other, _) = folders[0], next(pair for pair in folders if pair[1] != folders[0][1])
            raise FlowpriorError(
                f"{place}: '{first}' and '{other}' in {name} look like two splits; rename one, or set data.splits: "
                "folders (the outermost is the split), or hash (all images are divided by their names)"
            )
    splits = {split: tuple(name for name in names if named[name][0][1] == split) for split in SPLITS}
    if lacking := [split for split in SPLITS if not splits[split]]:
        raise FlowpriorError(
            f"no {lacking[0]} images below {place}, where folders name splits ({_example(named)}); "
            f"add a folder {lacking[0]}, or {_HASH}"
        )
    used = sorted({(SPLITS.index(folders[0][1]), *reversed(folders[0])) for folders in named.values()})
    return Division(splits, "by folders: " + ", ".join(f"{folder} is {split}" for _, split, folder in used))


def split_of(name: str) -> str:
    """Split of an image that lies in no split's folder: sha256 of its name modulo 10.

    0 is test, 1 is validation, all others are training.

    Example:
        >>> [split_of(f"{i}.png") for i in range(4)]
        ['train', 'test', 'train', 'train']
    """
    bucket = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10
    return {0: "test", 1: "validation"}.get(bucket, "train")


@cache
def split_meant(part: str) -> str | None:
    """The split that a word of a folder's or file's name means; None: no word does, or several do.

    Example:
        >>> [split_meant(part) for part in ("DIV2K_valid_HR", "val2017", "testimages", "latest", "contest")]
        ['validation', 'validation', 'test', None, None]
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", part)
    plain = (word.lower() for word in words)
    meant = {WORDS[word] for word in (one if one in WORDS else _JOINED.sub("", one) for one in plain) if word in WORDS}
    return meant.pop() if len(meant) == 1 else None


def _by_hash(names: Sequence[str]) -> Division:
    buckets = {name: split_of(name) for name in names}
    splits = {split: tuple(name for name in names if buckets[name] == split) for split in SPLITS}
    return Division(splits, "by a hash of each name: no folder is a split")


def _folders(name: str) -> tuple[str, ...]:
    return tuple(name.replace("\\", "/").split("/")[:-1])


@cache
def _named(folders: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Folders that look like a split, with it, from the outermost."""
    return tuple((folder, split) for folder in folders if (split := split_meant(folder)))


def _example(named: Mapping[str, tuple[tuple[str, str], ...]]) -> str:
    return ", ".join(sorted({folder for folders in named.values() for folder, _ in folders[:1]})[:3])


def _refuse_split_files(names: Sequence[str], place: str) -> None:
    """Stop where every file's own name says its split: `train_001.png` beside `test_001.png`."""
    meant = {split_meant(name.rpartition("/")[2].rpartition(".")[0]) for name in names}
    if None not in meant and len(meant) > 1:
        raise FlowpriorError(
            f"files below {place} are named after splits ({names[0]}, ...), and lie in no folders of these names; "
            f"move them into train, validation and test, or {_HASH}"
        )
