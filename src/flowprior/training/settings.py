"""How a model is trained, as a person says it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flowprior.precision import Precision
from flowprior.registry import NoiseStd, SettingsModel


class TrainingSettings(SettingsModel):
    """How a model is trained; its loss is its own."""

    steps: int = Field(3000, ge=1, description="optimiser steps")
    batch: int = Field(32, ge=1, description="images per step")
    learning_rate: float = Field(2e-3, gt=0, description="peak rate of Adam")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's first decay")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's second decay")
    warmup: int = Field(100, ge=0, description="steps of linear warm-up")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    clip_value: float | None = Field(None, gt=0, description="clip each gradient entry to this magnitude")
    clip_norm: float | None = Field(100.0, gt=0, description="clip the gradient's total norm")
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights; 0: none")
    noise_std: NoiseStd = Field(
        0.0, ge=0, description="Gaussian noise added to training images, on values in [0, 1]: a smoother density"
    )
    flips: bool = Field(True, description="mirror half of the images left to right")
    precision: Precision = Field("float32", description="of the convolutions; log-dets stay float32")
    compile: bool = Field(
        False, description="torch.compile a flow's loss where torch's layers run it (on a GPU); minutes at the start"
    )
    validate_every: int = Field(500, ge=1, description="steps between validations and resume points")
    patience: int | None = Field(None, ge=1, description="stop after so many validations without gain; null: never")
