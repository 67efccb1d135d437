"""The raw images: what their manifest says of them, and what DVC pins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flowprior.images import raw_files
from flowprior.images.checksums import base_name, of_file
from flowprior.images.settings import DataSettings

#: The file by which DVC pins the folder of raw images.
PIN = "data.dvc"


def raw_checksums(data: DataSettings, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Raw file (or folder) -> its checksum when the images were prepared; empty where no manifest says so."""
    known = manifest.get("checksums", {})
    return {path: known[base_name(path)] for path in raw_files(data) if base_name(path) in known}


def pinned(data: DataSettings, root: Path) -> str | None:
    """The md5 that `data.dvc` pins, where the raw images are of what it pins.

    None where they lie elsewhere, and where the folder has other files than were pinned, as their number and size tell.
    """
    owned = pin(root)
    if owned is None:
        return None
    folder = root / owned["path"]
    inside = (root / path for path in raw_files(data))
    if not all(path.resolve().is_relative_to(folder.resolve()) for path in inside):
        return None
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    same = len(sizes) == owned.get("nfiles") and sum(sizes) == owned.get("size")
    return str(owned["md5"]) if same else None


def pin(root: Path) -> dict[str, Any] | None:
    """What `data.dvc` says of its one folder; None without such a file."""
    path = root / PIN
    if not path.exists():
        return None
    outs = (yaml.safe_load(path.read_text()) or {}).get("outs") or [{}]
    return outs[0] if {"md5", "path"} <= set(outs[0]) else None


def folder_md5(folder: Path) -> str:
    """The md5 that DVC gives a folder: of a list of its files' names and md5s, in the order of names."""
    entries = [
        {"md5": of_file(path, "md5").partition(":")[2], "relpath": path.relative_to(folder).as_posix()}
        for path in folder.rglob("*")
        if path.is_file()
    ]
    listed = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    return f"{hashlib.md5(listed.encode(), usedforsecurity=False).hexdigest()}.dir"
