"""Methods that solve y = A x + noise; one file each. Nothing here knows of files, Snakemake or MLflow.

To add one: write a file with a class that follows `flowprior.solvers.base.Solver`, and add its line in `registry.py`.
"""

from __future__ import annotations

from typing import Any

from flowprior.solvers.registry import REGISTRY


def names() -> tuple[str, ...]:
    """Every registered solver."""
    return REGISTRY.names()


def __getattr__(name: str) -> Any:
    """Import `solve` and its types only when used: the registry is read where torch is not needed."""
    if name in ("solve", "Result", "Solver"):
        from flowprior.solvers import base

        return getattr(base, name)
    if name == "solve_points":
        from flowprior.solvers.sweep import solve_points

        return solve_points
    raise AttributeError(name)
