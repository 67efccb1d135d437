"""Linear measurement operators y = A x; one file each. Nothing here knows of flows or solvers.

To add one: write a file with a class that follows `flowprior.operators.base.Operator`, and add its line below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowprior.registry import Registry, image_shape

if TYPE_CHECKING:
    from flowprior.operators.base import Operator

REGISTRY: Registry[Operator] = Registry(
    "operator",
    {
        "identity": "flowprior.operators.identity:Identity",
        "box_blur": "flowprior.operators.box_blur:BoxBlur",
        "gaussian_blur": "flowprior.operators.gaussian_blur:GaussianBlur",
        "block_mean": "flowprior.operators.block_mean:BlockMean",
        "center_mask": "flowprior.operators.center_mask:CenterMask",
        "random_mask": "flowprior.operators.random_mask:RandomMask",
        "half_mask": "flowprior.operators.half_mask:HalfMask",
        "channel_mean": "flowprior.operators.channel_mean:ChannelMean",
        "gaussian_sensing": "flowprior.operators.gaussian_sensing:GaussianSensing",
        "dct_sensing": "flowprior.operators.dct_sensing:DCTSensing",
    },
)


def names() -> tuple[str, ...]:
    """Every registered operator."""
    return REGISTRY.names()


def build(name: str, shape: tuple[int, int, int], **settings: Any) -> Operator:
    """An operator for images of one shape.

    Args:
        name: a registered name.
        shape: (C, H, W) of the images.
        **settings: the operator's own settings; see its `Settings`.

    Raises:
        UnknownNameError: no such operator, naming the nearest.
        FlowpriorError: a setting is misspelt or out of range, or the shape is none of images.

    Example:
        >>> import torch
        >>> blur = build("box_blur", shape=(1, 4, 4), size=3)
        >>> blur.A(torch.ones(1, 1, 4, 4))[0, 0, 1, 1].item()
        1.0
    """
    return REGISTRY.get(name)(image_shape(shape), REGISTRY.settings(name, settings))
