"""Generative flows: layers, the flows, training, checkpoints. Nothing here knows of inverse problems.

To add one: write a file with a class that follows `flowprior.models.flows.base.Flow`, and add its line below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowprior.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from flowprior.models.flows.base import Flow

REGISTRY: Registry[Flow] = Registry(
    "flow",
    {
        "haar_glow": "flowprior.models.flows.haar_glow:HaarGlow",
        "glow": "flowprior.models.flows.glow:Glow",
        "chavez": "flowprior.models.flows.chavez:ChavezFlow",
    },
)


def names() -> tuple[str, ...]:
    """Every registered flow."""
    return REGISTRY.names()


def build(name: str, shape: tuple[int, int, int], **settings: Any) -> Flow:
    """A flow with fresh weights for images of one shape.

    Args:
        name: a registered name.
        shape: (C, H, W) of the images.
        **settings: the flow's own settings; see its `Settings`.

    Raises:
        UnknownNameError: no such flow, naming the nearest.
        FlowpriorError: a setting is misspelt or out of range, or the flow cannot take images of this shape.
    """
    # Every registered class takes (shape, settings); the levels are its own business.
    build_flow: Callable[..., Flow] = REGISTRY.get(name)
    return build_flow(shape, REGISTRY.settings(name, settings))


def load(path: str | Path) -> Flow:
    """A trained flow, in evaluation mode; see `flowprior.models.flows.checkpoint`.

    Args:
        path: a checkpoint folder, or a version in MLflow's model registry, such as
            "models:/flow-photos-32px-1a2b3c4d-8bit@best".

    Raises:
        FlowpriorError: there is no such flow, or it is damaged.
    """
    from flowprior.models.flows.checkpoint import load_flow

    if str(path).startswith("models:/"):
        from flowprior.tracking.models import checkpoint_at

        path = checkpoint_at(str(path))
    return load_flow(path)
