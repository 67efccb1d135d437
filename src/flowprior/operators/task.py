"""An inverse problem, as a person says it."""

from __future__ import annotations

import math
from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from flowprior.registry import NoiseStd, SettingsModel


class TaskSettings(SettingsModel):
    """One inverse problem: an operator and its noise."""

    operator: str = Field(description="registered operator")
    settings: dict[str, Any] = Field(default_factory=dict, description="the operator's own settings")
    noise_std: NoiseStd = Field(0.0, ge=0, description="standard deviation of the Gaussian noise, on values in [0, 1]")
    noise_norm: float | None = Field(
        None,
        ge=0,
        description="expected length of the noise of one measurement, in place of noise_std: it is spread over all its "
        "numbers, sigma = noise_norm / sqrt(m) (Asim et al. 2020)",
    )
    as_image: bool = Field(
        False, description="the measurement is an image like the others: clipped to [0, 1], quantised below 8 bits"
    )
    trained_as: str | None = Field(
        None,
        repr=False,
        description="another task of the experiment, whose trained models solve this one too: other measurements "
        "without training again; null: models learn this task",
    )

    @model_validator(mode="after")
    def _one_size_of_noise(self) -> Self:
        if self.noise_norm is not None and self.noise_std:
            raise ValueError("noise_std and noise_norm are two sizes of one noise; give one of them")
        return self

    @model_serializer(mode="wrap")
    def _said_only_where_it_is(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What was made of a task before stays as it is: `trained_as` stands only where a task has one."""
        dumped = dump(self)
        return {name: value for name, value in dumped.items() if name != "trained_as" or value is not None}

    def problem(self) -> dict[str, Any]:
        """What its measurements follow from, as plain values: all of it but whose models solve it.

        Example:
            >>> sorted(TaskSettings(operator="identity", trained_as="other").problem())
            ['as_image', 'noise_norm', 'noise_std', 'operator', 'settings']
        """
        return self.model_dump(mode="json", exclude={"trained_as"})

    def noise_of(self, numbers: int) -> float:
        """Standard deviation of the noise where a measurement has so many numbers.

        Example:
            >>> TaskSettings(operator="identity", noise_norm=0.1).noise_of(100)
            0.01
        """
        return self.noise_std if self.noise_norm is None else self.noise_norm / math.sqrt(numbers)
