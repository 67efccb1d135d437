"""What all records of jobs have in common: where a job ran, of what, and what it took."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flowprior.provenance.data import pinned
from flowprior.provenance.job import JobFacts
from flowprior.records.record import ImageSet, finite

if TYPE_CHECKING:
    from flowprior.report.layout import Layout, Step

#: Column of Snakemake's benchmark file -> metric; the prefix puts them on a page of their own.
_SYSTEM = {
    "max_rss": "system/peak_memory_megabytes",
    "mean_load": "system/mean_cpu_percent",
    "cpu_time": "system/cpu_seconds",
}


def facts_of(path: Path) -> JobFacts | None:
    """What a job said of itself; None for results that are older than such files."""
    return JobFacts.read(path) if path.exists() else None


def job_tags(facts: JobFacts | None, layout: Layout) -> dict[str, str]:
    """Where a job ran and which source tree it was of, to filter by."""
    md5 = pinned(layout.experiment.data, layout.root)
    tags = {"data.dvc": md5} if md5 else {}
    if facts is None:
        return tags
    tags |= {
        "rule": facts.rule,
        **{f"wildcards.{name}": value for name, value in facts.wildcards.items()},
        "host": facts.host,
        "device": facts.device,
        "git.dirty": "yes" if facts.diff else "no",
    }
    optional = {
        "mlflow.source.git.commit": facts.commit,
        "git.diff": facts.diff,
        "slurm_job": facts.slurm_job,
        "torch": facts.versions.get("torch"),
    }
    return tags | {name: value for name, value in optional.items() if value}


def started(facts: JobFacts | None) -> datetime | None:
    """When a job began."""
    return datetime.fromisoformat(facts.started) if facts else None


def costs(facts: JobFacts | None, benchmark: Path) -> dict[str, float]:
    """Seconds and memory of a job, as metrics."""
    found: dict[str, float | str] = {}
    if facts is not None:
        found |= {"job_seconds": facts.seconds, "peak_memory_mb": facts.peak_memory_mb}
        if facts.gpu_memory_mb is not None:
            found["gpu_memory_mb"] = facts.gpu_memory_mb
    if benchmark.exists():
        with benchmark.open(newline="") as file:
            row = next(csv.DictReader(file, delimiter="\t"), {})
        # A job that was too short to be looked at has "-" or "NA" there.
        found |= {_SYSTEM[name]: value for name, value in row.items() if name in _SYSTEM and _is_number(value)}
    return finite(found)


def image_sets(layout: Layout, *splits: str, count: int | None = None) -> tuple[ImageSet, ...]:
    """Prepared images that a job read.

    Args:
        layout: where they lie.
        *splits: "train", "validation" or "test".
        count: only the first so many; None: all.
    """
    manifest = layout.prepared("manifest.json")
    known = json.loads(manifest.read_text())["splits"] if manifest.exists() else {}
    data = layout.experiment.data
    return tuple(
        ImageSet(
            f"{data.source}-{data.resolution}px {split}",
            known[split]["sha256"][:16],
            {"train": "training"}.get(split, split),
            f"prepared/{data.key}/{split}.npy",
            min(known[split]["count"], count or known[split]["count"]),
        )
        for split in splits
        if split in known
    )


def log_of(layout: Layout, step: Step) -> dict[str, Callable[[Path], object]]:
    """A job's log as an artifact, if it is there."""
    path = layout.log(step)
    return {"log.txt": partial(shutil.copyfile, path)} if path.exists() else {}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
