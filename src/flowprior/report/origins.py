"""The page's last section: what ran where, of what it was made, and how to get it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowprior.report.formats import count, number


def facts(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested description as readable (name, value) pairs; of a long list, how long it is.

    Names of single images are left out, and checksums, which stand in a table of their own.

    Example:
        >>> facts({"sizes": {"test": 64}, "unreadable": [], "names": ["a"]})
        [('sizes.test', '64'), ('unreadable', 'none')]
    """
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if key in ("names", "checksums", "sha256"):
            continue
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            pairs += [(name, f"{len(value)} entries")] if len(value) > 16 else facts(value, f"{name}.")
        elif isinstance(value, list):
            short = len(value) <= 8
            pairs.append((name, (", ".join(map(str, value)) or "none") if short else f"{len(value)} entries"))
        elif value is not None:
            pairs.append((name, str(value)))
    return pairs


def hash_rows(provenance: Mapping[str, Any]) -> list[tuple[str, str, str | None, str]]:
    """Data and checkpoints: kind, file, checksum, and what else is known."""
    data = provenance["data"]
    rows = [("raw images", name, value, "") for name, value in data["raw"].items()]
    if data["pinned"]:
        rows.append(("raw images", "pinned by data.dvc", f"md5:{data['pinned']}", ""))
    rows += [("prepared images", name, value, "") for name, value in data["prepared"].items()]
    for prior, flow in provenance["flows"].items():
        more = f"{number(flow['bits_per_dim'])} bits per dimension, {count(flow['parameters'])} parameters"
        rows.append((f"checkpoint {prior}", flow["file"], flow["hash"], more))
    for name, value in provenance["files"].items():
        if re.fullmatch(r".*/flows/(.+)/\1\.npz", name):
            rows.append((f"checkpoint {Path(name).stem}", name, value, ""))
    return rows
