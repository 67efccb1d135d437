"""On what something ran: versions and hardware."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

#: Packages that decide about numbers or records.
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


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide about numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, str]:
    """Processor, cores and system."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count() or "unknown"),
        "system": f"{platform.system()} {platform.release()}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
