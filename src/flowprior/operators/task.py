"""An inverse problem, as a person says it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flowprior.registry import NoiseStd, SettingsModel


class TaskSettings(SettingsModel):
    """One inverse problem: an operator and its noise."""

    operator: str = Field(description="registered operator")
    settings: dict[str, Any] = Field(default_factory=dict, description="the operator's own settings")
    noise_std: NoiseStd = Field(0.0, ge=0, description="standard deviation of the Gaussian noise, on values in [0, 1]")
    as_image: bool = Field(
        False, description="the measurement is an image like the others: clipped to [0, 1], quantised below 8 bits"
    )
