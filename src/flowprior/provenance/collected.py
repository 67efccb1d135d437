"""Everything that is known of how a page came about, as one dictionary: `provenance.json`."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from flowprior.experiment.artefacts import LEAVES
from flowprior.experiment.layout import Layout, table_names
from flowprior.experiment.params import Experiment
from flowprior.experiment.parts import Training
from flowprior.images.checksums import of_file
from flowprior.images.settings import SPLITS
from flowprior.provenance.data import pinned, raw_checksums
from flowprior.provenance.invocation import Invocation
from flowprior.provenance.machine import machine, versions
from flowprior.provenance.reproducing import commands, settings_text
from flowprior.provenance.source import UNKNOWN, commit
from flowprior.provenance.times import JobEntry, job_entries

#: Changes when the meaning of an entry does.
FORMAT = 1
#: Rules whose jobs write down what they are.
SELF_DESCRIBING = tuple(rule for rule, leaves in LEAVES.items() if "job" in leaves.files)
LOCK = "requirements.lock"


def collect(experiment: Experiment, root: Path, asked: Experiment | None = None) -> dict[str, Any]:
    """Read, never write: the same files on the same machine give the same dictionary.

    A file that is missing leaves its entry None or out; nothing is guessed.

    Args:
        experiment: what ran.
        root: the repository root.
        asked: the experiment with the methods that were left out; default: there were none.

    Returns:
        Numbers, texts, lists and dictionaries alone, ready for JSON.
    """
    layout, asked = Layout(experiment, root), asked or experiment
    manifest = _json(layout.prepared("manifest"))
    raw = raw_checksums(experiment.data, manifest)
    entries = job_entries(layout)
    described = [entry for entry in entries if entry.host is not None]
    state = commit(root)
    source = {"commit": state.name, "diff": _checksum(state.diff), "lock": _hash(root / LOCK)}
    commits = _commits(described, {"commit": source["commit"], "diff": source["diff"]})
    text = settings_text(asked)
    called = Invocation.read(layout.invocation)
    return {
        "format": FORMAT,
        "experiment": experiment.name,
        "title": experiment.title or experiment.name,
        "settings": asked.model_dump(mode="json"),
        "settings_hash": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
        "source": source,
        "data": {
            "source": experiment.data.source,
            "pinned": pinned(experiment.data, root),
            "raw": raw,
            "prepared": {_name(layout, path): _hash(path) for path in _prepared(layout)},
        },
        "flows": {training.label: _trained(layout, training) for training in experiment.trainings()},
        "seeds": _seeds(layout),
        "machines": _places(described),
        "written": {"host": socket.gethostname(), **machine(), "versions": versions()},
        "commits": commits,
        "jobs": [_job(entry) for entry in entries],
        "undescribed": sum(entry.host is None for entry in entries if entry.rule in SELF_DESCRIBING),
        "files": hashes(root, result_files(layout)),
        "invocation": asdict(called) if called else None,
        "reproduce": commands(asked, source, _others(commits[1:]), list(raw)),
    }


def _prepared(layout: Layout) -> list[Path]:
    """Every file of prepared images."""
    return [*map(layout.prepared, SPLITS), *(layout.images(name)[0] for name in layout.experiment.test_sets)]


def result_files(layout: Layout) -> Iterator[Path]:
    """Every file of the results whose content is recorded, beside weights and images."""
    for step in layout.steps():
        yield from (layout.left(step, name) for name in getattr(LEAVES.get(step.rule), "hashed", ()))
    for name in table_names(layout.experiment):
        for ending in ("csv", "tex"):
            yield layout.table(name).with_suffix(f".{ending}")


def hashes(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Path below the root -> checksum, of those files that exist."""
    return {path.relative_to(root).as_posix(): of_file(path) for path in paths if path.exists()}


def listed_hashes(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Every file of a `provenance.json` that had a checksum; the raw images come first."""
    listed = {
        **provenance["data"]["raw"],
        **provenance["data"]["prepared"],
        **{flow["file"]: flow["hash"] for flow in provenance["flows"].values()},
        **provenance["files"],
        f"results/{provenance['experiment']}/{LEAVES['report'].pattern('settings')}": provenance["settings_hash"],
        LOCK: provenance["source"]["lock"],
    }
    return {name: checksum for name, checksum in listed.items() if checksum}


def _trained(layout: Layout, training: Training) -> dict[str, Any]:
    config = _json(layout.trained(training, "config"))
    weights = layout.trained(training, "weights")
    return {
        "file": _name(layout, weights),
        "hash": _hash(weights),
        "bits_per_dim": config.get("bits_per_dim"),
        "parameters": config.get("parameters"),
    }


def _seeds(layout: Layout) -> list[int]:
    """The experiment's, and those of its rows: one number unless rows of several runs were mixed."""
    path = layout.evaluated("rows")
    seeds = set(pd.read_parquet(path, columns=["seed"])["seed"].astype(int)) if path.exists() else set()
    return sorted({layout.experiment.seed} | seeds)


def _places(entries: Iterable[JobEntry]) -> list[dict[str, Any]]:
    """Each host, device and set of versions once, with how many jobs ran there."""
    return _tally({name: getattr(entry, name) for name in ("host", "device", "versions")} for entry in entries)


def _commits(entries: Iterable[JobEntry], here: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each state of the source tree with how many jobs it ran; that of the page comes first."""
    states = ({"commit": entry.commit, "diff": _checksum(entry.diff)} for entry in entries)
    return _tally(states, here)


def _tally(states: Iterable[Mapping[str, Any]], *first: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each state once, in the order of its first job, with its number of jobs."""
    found = [{**state, "jobs": 0} for state in first]
    for state in states:
        known = next((known for known in found if state.items() <= known.items()), None)
        if known is None:
            found.append(known := {**state, "jobs": 0})
        known["jobs"] += 1
    return found


def _others(states: Iterable[Mapping[str, Any]]) -> list[str]:
    """States as a comment has room for them; all digits of the diffs stand in "commits"."""
    return [
        (state["commit"] or "no commit") + (f" with changes of {state['diff'][:19]}..." if state["diff"] else "")
        for state in states
    ]


def _job(entry: JobEntry) -> dict[str, Any]:
    """An entry without its versions, which stand once for each place."""
    facts = {name: value for name, value in asdict(entry).items() if name != "versions"}
    return {**facts, "diff": _checksum(entry.diff)}


def _name(layout: Layout, path: Path) -> str:
    return path.relative_to(layout.root).as_posix()


def _checksum(digits: str | None) -> str | None:
    return digits if digits in (None, UNKNOWN) else f"sha256:{digits}"


def _hash(path: Path) -> str | None:
    return of_file(path) if path.exists() else None


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
