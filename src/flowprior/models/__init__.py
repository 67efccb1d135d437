"""What is learned or fitted and then asked. Nothing here knows of solvers.

What a model can do is a protocol of `flowprior.models.capabilities`; how it learns stands in the class that it names
by `trained_by` (`flowprior.training.trainable`). To add one: write a file, and add its line in `registry.py`; a flow's
line stands in `flowprior.models.flows.registry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowprior.models.registry import FITTED, REGISTRY, TRAINED, build

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FITTED", "REGISTRY", "TRAINED", "build", "load", "names"]


def names() -> tuple[str, ...]:
    """Every registered model, flows first."""
    return REGISTRY.names()


def load(path: str | Path) -> Any:
    """A trained model of any kind, in evaluation mode on the CPU; see `flowprior.models.checkpoint`.

    Args:
        path: a checkpoint folder.

    Raises:
        FlowpriorError: there is no such model, or it is damaged.
    """
    from flowprior.models.checkpoint import load_model

    return load_model(path)
