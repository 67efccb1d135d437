"""What every operator of compressive sensing shares: a vector of m numbers, drawn from a seed."""

from __future__ import annotations

import math

from pydantic import Field

from flowprior.errors import FlowpriorError
from flowprior.operators.base import Operator
from flowprior.registry import SettingsModel


class Sensing(Operator):
    """A measurement is a vector (m,), m at most the values of an image."""

    pictures = False

    class Settings(SettingsModel):
        """Settings of every kind of sensing."""

        measurements: int = Field(ge=1, description="numbers m that are measured, at most the values of an image")
        seed: int = Field(0, ge=0, description="everything random in it follows from it")

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        super().__init__(shape, settings)
        self.values = math.prod(shape)
        if settings.measurements > self.values:
            raise FlowpriorError(
                f"measurements must be at most the {self.values} values of an image {tuple(shape)}, "
                f"got {settings.measurements}"
            )

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """A vector."""
        return (self.settings.measurements,)
