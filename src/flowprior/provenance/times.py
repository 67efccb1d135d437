"""How long the jobs of a run took, from Snakemake's benchmark files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd


class StepTime(NamedTuple):
    """Benchmarks of one rule: jobs, their seconds in total and at most, and the largest memory in MB."""

    rule: str
    jobs: int
    total: float
    longest: float
    memory: float


def step_times(benchmarks: Iterable[tuple[str, Path]]) -> list[StepTime]:
    """Sum Snakemake's benchmark files per rule.

    Args:
        benchmarks: (rule, file); files that do not exist are left out.
    """
    parts = []
    for rule, path in benchmarks:
        if path.exists():
            parts.append(pd.read_csv(path, sep="\t", na_values=["-"]).assign(rule=rule))
    if not parts:
        return []
    return [
        StepTime(
            rule=str(rule),
            jobs=len(jobs),
            total=float(jobs["s"].sum()),
            longest=float(jobs["s"].max()),
            memory=float(jobs["max_rss"].max()) if "max_rss" in jobs else float("nan"),
        )
        for rule, jobs in pd.concat(parts).groupby("rule", sort=False)
    ]
