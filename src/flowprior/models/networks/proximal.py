"""placeholder until merged."""

from __future__ import annotations

from typing import Any

from torch import nn

from flowprior.models.networks.unet import UNet, check_sides


def proximal_network(kind: str, shape: tuple[int, int, int], settings: dict[str, Any]) -> nn.Module:
    """TODO."""
    given = {"width": 24, "levels": 2, "blocks": 1, **settings}
    check_sides(kind, shape, given["levels"])
    return UNet(shape[0] + 1, shape[0], **given)
