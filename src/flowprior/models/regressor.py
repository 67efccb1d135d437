"""A network trained to answer one inverse problem: from a measurement to the image at once."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from flowprior.models.networks.unet import UNet, check_sides
from flowprior.operators.base import Operator
from flowprior.registry import SettingsModel


class Regressor(nn.Module):
    """The least-squares image A_dagger y, corrected by a U-Net that sees it and A_adjoint y.

    Both are images whatever the measurement's shape. Where A hardly has an inverse, noise makes A_dagger y large: what
    is corrected is its part in [0, 1], and the adjoint shows what was measured without that noise.
    """

    name: ClassVar[str] = "regressor"
    trained_by: ClassVar[str] = "flowprior.training.supervised:SupervisedTraining"

    class Settings(SettingsModel):
        """Settings of `regressor`."""

        width: int = Field(24, ge=1, description="channels at full size; twice as many at each scale below")
        levels: int = Field(2, ge=0, description="how often the sides are halved")
        blocks: int = Field(1, ge=1, description="residual blocks at each scale, down and up")

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        check_sides(self.name, shape, settings.levels)
        super().__init__()
        self.shape, self.settings = shape, settings
        self.network = UNet(2 * shape[0], shape[0], settings.width, settings.levels, settings.blocks)

    def solve(self, operator: Operator, y: Tensor) -> Tensor:
        """Images (N, C, H, W), not clipped, from measurements (N, *operator.measurement_shape)."""
        found: Tensor = self(operator, y)
        return found

    def forward(self, operator: Operator, y: Tensor) -> Tensor:
        """The same, differentiable by the weights."""
        dagger = operator.A_dagger(y)
        seen = torch.cat([dagger.clamp(-1, 2), operator.A_adjoint(y)], 1)
        found: Tensor = dagger.clamp(0, 1) + self.network(seen)
        return found
