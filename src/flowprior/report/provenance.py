"""What ran where: versions, seeds, commit, machine and times."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

PACKAGES = (
    "flowprior",
    "torch",
    "numpy",
    "scipy",
    "scikit-image",
    "bm3d",
    "pandas",
    "snakemake",
    "dvc",
    "mlflow",
)


class Commit(NamedTuple):
    """State of the source tree; `name` is None outside a repository."""

    name: str | None
    changed: bool


class StepTime(NamedTuple):
    """Benchmarks of one rule: jobs, their seconds in total and at most, and the largest memory in MB."""

    rule: str
    jobs: int
    total: float
    longest: float
    memory: float


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide about numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit(root: Path) -> Commit:
    """The commit of a repository, and whether tracked files were changed since."""
    name = _git(root, "rev-parse", "HEAD")
    if not name:
        return Commit(None, False)
    return Commit(name, bool(_git(root, "status", "--porcelain", "--untracked-files=no")))


def machine() -> dict[str, str]:
    """Processor, cores and system."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count() or "unknown"),
        "system": f"{platform.system()} {platform.release()}",
    }


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


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
