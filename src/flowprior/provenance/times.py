"""What the jobs of an experiment took, and where: from what they say of themselves and from Snakemake's benchmarks."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import NamedTuple

from flowprior.experiment.layout import Layout, Step
from flowprior.provenance.job import JobFacts


@dataclass(frozen=True)
class JobEntry:
    """One job, as far as it is known.

    Attributes:
        rule: of the workflow.
        wildcards: that tell the job from others of its rule.
        seconds: how long it took; None where nothing was left that says so.
        peak_memory_mb: most resident memory.
        gpu_memory_mb: most memory on a GPU; None without one.
        started: UTC, ISO 8601.
        host: where it ran.
        device: what computed.
        slurm_job: id of its Slurm job.
        commit: of the source tree.
        diff: sha256 of what was changed since that commit.
        versions: package -> version.
        inputs: file -> checksum that the job read.
    """

    rule: str
    wildcards: dict[str, str]
    seconds: float | None = None
    peak_memory_mb: float | None = None
    gpu_memory_mb: float | None = None
    started: str | None = None
    host: str | None = None
    device: str | None = None
    slurm_job: str | None = None
    commit: str | None = None
    diff: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)


class StepTime(NamedTuple):
    """The jobs of one rule: how many, their seconds in total and at most, and the largest memory in MB."""

    rule: str
    jobs: int
    total: float
    longest: float
    memory: float


def job_entries(layout: Layout) -> list[JobEntry]:
    """Every job before the report. A file that is missing leaves its part empty."""
    return [_entry(layout, step) for step in layout.steps()]


def _entry(layout: Layout, step: Step) -> JobEntry:
    numbers = benchmark_numbers(layout.benchmark(step))
    seconds, memory = numbers.get("s"), numbers.get("max_rss")
    path = layout.job_file(step)
    facts = JobFacts.read(path) if path else None
    if facts is None:
        return JobEntry(step.rule, step.wildcards, seconds, memory)
    entry = JobEntry(**{one.name: getattr(facts, one.name) for one in fields(JobEntry)})
    # Snakemake's clock includes the start of the program, the job's own does not.
    seconds = facts.seconds if seconds is None else seconds
    return replace(entry, rule=step.rule, wildcards=step.wildcards, seconds=seconds)


def benchmark_numbers(path: Path) -> dict[str, float]:
    """Column of a job's benchmark file -> number: "s", "max_rss" (MB), "cpu_time" and others.

    What a short job left no time to see ("-") is left out; without a file there is nothing.
    """
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    texts = lines[-1] if lines else {}
    return {name: float(text) for name, text in texts.items() if name != "h:m:s" and text not in (None, "", "-", "NA")}


def step_times(entries: Iterable[JobEntry]) -> list[StepTime]:
    """The times of the jobs, rule by rule; a job whose time is not known is left out."""
    rules: dict[str, list[JobEntry]] = {}
    for entry in entries:
        if entry.seconds is not None:
            rules.setdefault(entry.rule, []).append(entry)
    return [
        StepTime(
            rule=rule,
            jobs=len(found),
            total=sum(entry.seconds or 0.0 for entry in found),
            longest=max(entry.seconds or 0.0 for entry in found),
            memory=max(
                (entry.peak_memory_mb for entry in found if entry.peak_memory_mb is not None), default=float("nan")
            ),
        )
        for rule, found in rules.items()
    ]
