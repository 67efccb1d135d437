"""Methods that solve y = A x + noise; one file each. Nothing here knows of files, Snakemake or MLflow.

To add one: write a file with a class that follows `flowprior.solvers.base.Solver`, and add its line below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowprior.registry import Registry

if TYPE_CHECKING:
    from flowprior.solvers.base import Solver

REGISTRY: Registry[Solver] = Registry(
    "solver",
    {
        "chavez": "flowprior.solvers.chavez:Chavez",
        "csgm": "flowprior.solvers.csgm:CSGM",
        "glowip": "flowprior.solvers.glowip:GlowIP",
        "map": "flowprior.solvers.map:MAP",
        "linear_mmse": "flowprior.solvers.linear_mmse:LinearMMSE",
        "linear_posterior": "flowprior.solvers.linear_posterior:LinearPosterior",
        "bm3d": "flowprior.solvers.bm3d:BM3D",
    },
)


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
