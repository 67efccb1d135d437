"""Generative flows: layers, the flows, training, checkpoints. Nothing here knows of inverse problems.

To add one: write a file with a class that follows `flowprior.models.flows.base.Flow`, and add its line in
`registry.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowprior.errors import FlowpriorError
from flowprior.models.flows.registry import REGISTRY, build

__all__ = ["REGISTRY", "build", "load", "names"]

if TYPE_CHECKING:
    from pathlib import Path

    from flowprior.models.flows.base import Flow


def names() -> tuple[str, ...]:
    """Every registered flow."""
    return REGISTRY.names()


def load(path: str | Path) -> Flow:
    """A trained flow, in evaluation mode; see `flowprior.models.flows.checkpoint`.

    Args:
        path: a checkpoint folder; a version in MLflow's model registry is loaded by `flowprior.tracking.load_flow`.

    Raises:
        FlowpriorError: there is no such flow, or it is damaged.
    """
    from flowprior.models.flows.checkpoint import load_flow

    if str(path).startswith("models:/"):
        raise FlowpriorError(f"{path} is an address of MLflow's registry; load it by flowprior.tracking.load_flow")
    return load_flow(path)
