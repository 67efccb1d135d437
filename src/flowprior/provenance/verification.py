"""Whether results still are what their `provenance.json` says: every hash, and a sample of the rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from flowprior.errors import FlowpriorError
from flowprior.experiment.artefacts import LEAVES
from flowprior.experiment.layout import Layout
from flowprior.experiment.loading import experiment_from
from flowprior.experiment.params import Experiment
from flowprior.images import source_of
from flowprior.images.checksums import base_name, of_file
from flowprior.progress import Progress
from flowprior.provenance.collected import FORMAT, listed_hashes
from flowprior.provenance.data import PIN, folder_md5, pin
from flowprior.provenance.machine import versions
from flowprior.provenance.recomputing import UNREADABLE, recompute, sample
from flowprior.provenance.source import commit


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        files: how many files were hashed again or are missing.
        rows: how many rows were computed again from their pictures.
        solved: how many of them were solved again.
        differences: one line for each thing that differs; none: everything agrees.
        notes: what is no difference but may explain one.
    """

    files: int
    rows: int
    solved: int
    differences: tuple[str, ...]
    notes: tuple[str, ...]

    def summary(self) -> str:
        """One line."""
        looked = f"{self.files} files, {self.rows} rows, {self.solved} solved again"
        if not self.differences:
            return f"everything agrees: {looked}"
        count = len(self.differences)
        return f"{count} difference{'s' if count != 1 else ''}: {looked}"


def verify(results: Path, rows: int = 6, solve: int = 3, seed: int = 0) -> Verdict:
    """Compute again what `provenance.json` lists, and a sample of rows.

    Args:
        results: `results/<experiment>`; the repository is two folders above.
        rows: how many rows are compared with their pictures.
        solve: how many of them are solved again.
        seed: of the sample.

    Raises:
        FlowpriorError: there is no `provenance.json`, or none that this version reads.
    """
    results = Path(results)
    provenance = read(results / LEAVES["report"].pattern("provenance"))
    if (name := provenance["experiment"]) != (folder := Path(os.path.abspath(results))).name:  # noqa: PTH100
        raise FlowpriorError(f"{results} holds the results of '{name}'; give the folder that name again")
    root = folder.parents[1]  # where a link leads to is not where prepared/ lies
    experiment = experiment_from(provenance["settings"])
    differences, count = _files(root, experiment, provenance)
    differences += _stale_inputs(provenance)
    lines, chosen, solved = _rows(Layout(experiment, root), rows, solve, seed)
    return Verdict(count, chosen, solved, tuple(differences + lines), tuple(_notes(root, provenance)))


def read(path: Path) -> dict[str, Any]:
    """A `provenance.json`.

    Raises:
        FlowpriorError: it is missing, damaged, or of another format.
    """
    remedy = "write the report again: snakemake --configfile params/<experiment>.yaml --forcerun report"
    try:
        provenance = json.loads(path.read_text(encoding="utf-8"))
        found = provenance["format"]
    except (FileNotFoundError, NotADirectoryError):
        raise FlowpriorError(f"no provenance at {path}; name a folder such as results/demo, or {remedy}") from None
    except (ValueError, KeyError, TypeError):
        raise FlowpriorError(f"{path} is damaged; {remedy}") from None
    if found != FORMAT:
        raise FlowpriorError(f"{path} has format {found}, this version reads {FORMAT}; {remedy}")
    return provenance


def _files(root: Path, experiment: Experiment, provenance: Mapping[str, Any]) -> tuple[list[str], int]:
    """Lines on files that are missing or differ, and how many were looked at."""
    listed = listed_hashes(provenance)
    pinned = provenance["data"]["pinned"]
    progress = Progress("hash files", len(listed) + bool(pinned))
    differences = []
    for done, (name, before) in enumerate(listed.items(), start=1):
        path = root / name
        if not path.exists():
            differences.append(f"{name} is missing; its hash was {before}")
        else:
            now = _folder(experiment, path) if path.is_dir() else of_file(path, before.partition(":")[0])
            if now != before:
                differences.append(f"{name} differs: {now}, recorded {before}")
        progress.update(done, different=len(differences))
    if pinned:
        differences += _pin(root, pinned)
        progress.update(len(listed) + 1, different=len(differences))
    return differences, len(listed) + bool(pinned)


def _folder(experiment: Experiment, path: Path) -> str:
    """The checksum of a folder of raw images, as the manifest has it."""
    with source_of(experiment.data.model_copy(update={"path": str(path)})) as source:
        return source.checksums()[base_name(str(path))]


def _pin(root: Path, before: str) -> list[str]:
    """Whether the pinned folder is what was pinned."""
    owned = pin(root)
    if owned is None:
        return [f"{PIN} is missing; it pinned md5 {before}"]
    if owned["md5"] != before:
        return [f"{PIN} pins another folder: md5 {owned['md5']}, recorded {before}"]
    folder = root / owned["path"]
    now = folder_md5(folder) if folder.is_dir() else "nothing"
    return [] if now == before else [f"{owned['path']} is not what {PIN} pins: md5 {now}, pinned {before}"]


def _stale_inputs(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Jobs that read another version of a file than the page was made of."""
    listed = listed_hashes(provenance)
    for job in provenance["jobs"]:
        for name, read_then in job["inputs"].items():
            if listed.get(name, read_then) != read_then:
                which = " ".join([job["rule"], *job["wildcards"].values()])
                yield f"{which} read another {name}: {read_then}, the page is of {listed[name]}"


def _rows(layout: Layout, count: int, solve: int, seed: int) -> tuple[list[str], int, int]:
    """Lines on rows that differ, how many rows were looked at, and how many were solved again."""
    path = layout.evaluated("rows")
    try:
        chosen = sample(pd.read_parquet(path), count, seed)
    except UNREADABLE:
        return [f"{path.relative_to(layout.root)} cannot be read: no row was computed again"], 0, 0
    lines: list[str] = []
    solved = 0
    progress = Progress("compute rows again", max(len(chosen), 1))
    for number, row in enumerate(chosen):
        again = recompute(layout, row, solve=number < solve)
        lines += again.differences
        solved += again.solved
        progress.update(number + 1, solved=solved, different=len(lines))
    return lines, len(chosen), solved


def _notes(root: Path, provenance: Mapping[str, Any]) -> Iterator[str]:
    source, state = provenance["source"], commit(root)
    if source["commit"] and state.name != source["commit"]:
        yield f"this tree is at commit {state.name or 'none'}, the page was written at {source['commit']}"
    here = versions()
    other = [
        f"{name} {here.get(name, 'not installed')} (was {version})"
        for name, version in provenance["written"]["versions"].items()
        if here.get(name) != version
    ]
    if other:
        yield f"other versions here: {', '.join(other)}"
