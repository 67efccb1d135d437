"""Every flow by its name. To add one: its file, and its line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowprior.registry import Registry, image_shape

if TYPE_CHECKING:
    from flowprior.models.flows.base import Flow

REGISTRY: Registry[Flow] = Registry(
    "flow",
    {
        "haar_glow": "flowprior.models.flows.haar_glow:HaarGlow",
        "glow": "flowprior.models.flows.glow:Glow",
        "chavez": "flowprior.models.flows.chavez:ChavezFlow",
    },
)


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
    return build_flow(image_shape(shape), REGISTRY.settings(name, settings))
