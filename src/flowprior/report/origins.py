"""The page's last section: what ran where, of what it was made, and how to get it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flowprior.provenance.source import UNKNOWN
from flowprior.provenance.times import JobEntry, step_times
from flowprior.report.formats import DASH, count, duration, number
from flowprior.report.results import Results, read_json

View = dict[str, Any]
#: Digits of a hash that a person compares; the whole stands in the title.
DIGITS = 12


def provenance_view(results: Results, provenance: Mapping[str, Any]) -> View:
    """Every fact of `provenance.json` that a reader looks for, as it is written on the page."""
    entries = [JobEntry(**job) for job in provenance["jobs"]]
    steps = step_times(entries)
    written = provenance["written"]
    return {
        "commit": _commit(provenance["source"]),
        "lock": _hash(provenance["source"]["lock"]),
        "settings_hash": _hash(provenance["settings_hash"]),
        "seeds": ", ".join(map(str, provenance["seeds"])),
        "invocation": provenance["invocation"],
        "hashes": _hash_rows(provenance),
        "manifest": facts(read_json(results.layout.prepared("manifest"))),
        "written": {name: value for name, value in written.items() if name != "versions"},
        "versions": written["versions"],
        "places": [_place(place, written["versions"]) for place in provenance["machines"]],
        "commits": [{**_commit(state), "jobs": state["jobs"]} for state in provenance["commits"]],
        "undescribed": provenance["undescribed"],
        "steps": [
            {
                "rule": step.rule,
                "jobs": step.jobs,
                "total": duration(step.total),
                "longest": duration(step.longest),
                "memory": number(step.memory, 0),
            }
            for step in steps
        ],
        "total": duration(sum(step.total for step in steps)) if steps else None,
        "jobs": [_job(entry) for entry in entries],
        "reproduce": "\n".join(provenance["reproduce"]),
        "settings": yaml.safe_dump(provenance["settings"], sort_keys=False, allow_unicode=True),
    }


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


def _hash(checksum: str | None) -> View | None:
    """A checksum's first digits, and all of it."""
    return {"short": (checksum.partition(":")[2] or checksum)[:DIGITS], "full": checksum} if checksum else None


def _commit(state: Mapping[str, Any]) -> View:
    name = state["commit"]
    return {"short": name[:DIGITS] if name else None, "full": name, "diff": _hash(state["diff"])}


def _hash_rows(provenance: Mapping[str, Any]) -> list[View]:
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
    return [{"kind": kind, "file": file, "hash": _hash(value), "more": more} for kind, file, value, more in rows]


def _place(place: Mapping[str, Any], here: Mapping[str, str]) -> View:
    """A machine, with those of its versions that are not the page's."""
    other = [f"{name} {version}" for name, version in place["versions"].items() if here.get(name) != version]
    return {**place, "other": ", ".join(other) or "as above"}


def _job(entry: JobEntry) -> View:
    return {
        "rule": entry.rule,
        "which": " ".join(entry.wildcards.values()) or DASH,
        "seconds": duration(entry.seconds),
        "memory": number(entry.peak_memory_mb, 0),
        "host": entry.host or DASH,
        "device": entry.device or DASH,
        "slurm": entry.slurm_job or DASH,
        "commit": entry.commit[:DIGITS] + {None: "", UNKNOWN: "?"}.get(entry.diff, "+") if entry.commit else DASH,
    }
