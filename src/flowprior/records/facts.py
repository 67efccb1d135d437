"""What all records have in common: where a job ran, of what, and what it took."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from flowprior.experiment.layout import Layout, Step
from flowprior.provenance.data import pinned
from flowprior.provenance.invocation import Invocation
from flowprior.provenance.job import JobFacts
from flowprior.provenance.source import UNKNOWN
from flowprior.provenance.times import benchmark_numbers
from flowprior.records.record import ImageSet, finite

#: Column of Snakemake's benchmark file -> metric; the prefix puts them on a page of their own.
_SYSTEM = {
    "max_rss": "system/peak_memory_megabytes",
    "mean_load": "system/mean_cpu_percent",
    "cpu_time": "system/cpu_seconds",
}


@dataclass(frozen=True)
class Common:
    """What is the same in all records of an experiment, looked up once.

    Attributes:
        layout: where the files lie.
        group: what the records are listed with.
        images: split -> prepared images.
        marks: facts about everything that can change while no number does.
        skip: told of each job whose files can not be a record, and why.
    """

    layout: Layout
    group: str
    images: Mapping[str, ImageSet]
    marks: Mapping[str, str]
    skip: Callable[[str], None]

    @classmethod
    def of(cls, layout: Layout, group: str, skip: Callable[[str], None]) -> Common:
        """Read it."""
        md5 = pinned(layout.experiment.data, layout.root)
        return cls(layout, group, _image_sets(layout), {"data.dvc": md5} if md5 else {}, skip)


def other_params(job: JobFacts | None, wanted: Mapping[str, Any]) -> str | None:
    """The first parameter that a job had otherwise than is wanted; None where there is none, or nothing is known."""
    had = (job.params if job else None) or {}
    asked = json.loads(json.dumps(wanted))
    return next((name for name, value in asked.items() if name in had and had[name] != value), None)


def job_tags(job: JobFacts | None) -> dict[str, str]:
    """Where a job ran and which source tree it was of, to filter by."""
    if job is None:
        return {}
    tags = {"rule": job.rule, "host": job.host, "device": job.device}
    tags |= {f"wildcards.{name}": value for name, value in job.wildcards.items()}
    tags |= source_tags(job.commit, job.diff)
    optional = {"slurm_job": job.slurm_job, "torch": job.versions.get("torch")}
    return tags | {name: value for name, value in optional.items() if value}


def source_tags(commit: str | None, diff: str | None) -> dict[str, str]:
    """Which program: its commit, and whether it was changed; nothing that is not known."""
    if commit is None:
        return {}
    tags = {"mlflow.source.git.commit": commit}
    if diff != UNKNOWN:
        tags["git.dirty"] = "yes" if diff else "no"
    return tags | ({"git.diff": diff} if diff not in (None, UNKNOWN) else {})


def started(job: JobFacts | None) -> datetime | None:
    """When a job began."""
    return datetime.fromisoformat(job.started) if job else None


def call_of(job: JobFacts | None) -> Invocation | None:
    """The call of the workflow that a job ran in."""
    return Invocation(**job.call) if job and job.call else None


def costs(job: JobFacts | None, benchmark: Path) -> dict[str, float]:
    """Seconds and memory of a job, as metrics."""
    found = {_SYSTEM[name]: value for name, value in benchmark_numbers(benchmark).items() if name in _SYSTEM}
    if job is not None:
        found |= {"job_seconds": job.seconds, "peak_memory_mb": job.peak_memory_mb}
        if job.gpu_memory_mb is not None:
            found["gpu_memory_mb"] = job.gpu_memory_mb
    return finite(found)


def log_of(layout: Layout, step: Step) -> dict[str, Callable[[Path], object]]:
    """A job's log as an artifact, if it is there."""
    path = layout.log(step)
    return {"log.txt": partial(shutil.copyfile, path)} if path.exists() else {}


def _image_sets(layout: Layout) -> dict[str, ImageSet]:
    manifest, data = layout.prepared("manifest"), layout.experiment.data
    splits = json.loads(manifest.read_text())["splits"] if manifest.exists() else {}
    return {
        split: ImageSet(
            f"{data.source}-{data.resolution}px {split}",
            known["sha256"][:16],
            {"train": "training"}.get(split, split),
            f"prepared/{data.key}/{split}.npy",
            known["count"],
        )
        for split, known in splits.items()
    }
