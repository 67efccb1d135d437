"""Networks that may stand where a proximal map stands: from an image, and what else is known, to an image."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field
from torch import nn

from flowprior.models.networks.resnet import Norm, ResNet
from flowprior.models.networks.unet import UNet, check_sides
from flowprior.registry import SettingsModel

#: Kinds of networks, the two baselines of Wei et al. 2022.
Kind = Literal["unet", "resnet"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_WIDTHS: dict[Kind, int] = {"unet": 24, "resnet": 128}
_BLOCKS: dict[Kind, int] = {"unet": 1, "resnet": 2}


class NetworkSettings(SettingsModel):
    """Which network, and how large."""

    network: Kind = Field("unet", description="unet: several scales; resnet: full size only, as Wei et al. 2022")
    width: int | None = Field(
        None, ge=1, description="channels at full size; null: 24 of a unet, which doubles them below, 128 of a resnet"
    )
    levels: int = Field(2, ge=0, description="of a unet: how often the sides are halved")
    blocks: int | None = Field(
        None,
        ge=1,
        description="residual blocks; of a unet at each scale, down and up; null: 1 of a unet, 2 of a resnet",
    )
    norm: Norm = Field("batch", description="of a resnet: after each 3x3 convolution; a unet has none")

    @property
    def by_batch(self) -> bool:
        """Whether an image depends on the others of its batch while the network is trained."""
        return self.network == "resnet" and self.norm == "batch"


def proximal_network(kind: Kind, channels_in: int, channels_out: int, settings: NetworkSettings) -> nn.Module:
    """A network from images (N, channels_in, H, W) to (N, channels_out, H, W); fresh, it answers zero.

    Args:
        kind: `unet` or `resnet`.
        channels_in: of the image and of what is known besides, such as the noise's level.
        channels_out: of the answer.
        settings: its size; `settings.network` is not looked at.
    """
    width = _WIDTHS[kind] if settings.width is None else settings.width
    blocks = _BLOCKS[kind] if settings.blocks is None else settings.blocks
    if kind == "unet":
        return UNet(channels_in, channels_out, width, settings.levels, blocks)
    return ResNet(channels_in, channels_out, width, blocks, settings.norm)


def check_network(name: str, shape: tuple[int, int, int], settings: NetworkSettings) -> None:
    """Raise if a model's network cannot take images of a shape.

    Args:
        name: of the model, for the message.
        shape: (C, H, W) of the images.
        settings: which network.

    Raises:
        FlowpriorError: sides that a U-Net cannot halve.
    """
    if settings.network == "unet":
        check_sides(name, shape, settings.levels)
