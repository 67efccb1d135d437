"""A trained flow on disk, as any model's: `flowprior.models.checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowprior.errors import FlowpriorError
from flowprior.models.checkpoint import load_model, save_model
from flowprior.models.files import CONFIG, WEIGHTS
from flowprior.models.flows.base import Flow

__all__ = ["CONFIG", "WEIGHTS", "load_flow", "save_flow"]


def save_flow(folder: str | Path, flow: Flow, facts: dict[str, Any] | None = None) -> None:
    """Write a flow; see `flowprior.models.checkpoint.save_model`."""
    save_model(folder, flow, facts)


def load_flow(folder: str | Path) -> Flow:
    """Read a flow, in evaluation mode on the CPU.

    Raises:
        FlowpriorError: as `flowprior.models.checkpoint.load_model`, or the folder holds a model that is no flow.
    """
    model = load_model(folder)
    if not isinstance(model, Flow):
        raise FlowpriorError(f"{folder} holds the model '{model.name}', which is no flow; name the folder of a flow")
    model.checkpoint = Path(folder)
    return model
