"""Glow (Kingma & Dhariwal 2018), as Asim et al. 2020 and Oberlin & Verm 2021 use it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from flowprior.models.flows.base import Flow, check_divisible
from flowprior.models.flows.coupling_networks import NetworkDesign
from flowprior.models.flows.layers import (
    ActNorm,
    Bijection,
    Chain,
    Coupling,
    Mixing,
    SigmoidAffine,
    Squeeze,
    additive,
    sigmoid_affine,
)
from flowprior.models.flows.layers.coupling import ScaleShift

#: What makes `glow` the one that Asim et al. 2020 released, beside K, L and width 512: their counts to the digit.
ASIM2020 = {
    "hidden": 512,
    "last_steps": 1,
    "hidden_norm": "actnorm",
    "hidden_std": 0.01,
    "last_level_std": 0.01,
    "last_level_bias": 1.0,
}

#: What makes `glow` the one of Oberlin & Verm 2021, as far as ours can say it: theirs pads coupling networks with ones,
#: stores each 1x1 convolution as an LU decomposition, and learns the mean and scale of what a level splits off.
OBERLIN2021 = {
    "levels": 4,
    "steps": 32,
    "hidden": 512,
    "coupling": "additive",
    "hidden_std": 0.05,
}


class Glow(Flow):
    """L levels of: squeeze, K steps of (actnorm, 1x1 convolution, coupling), half of the channels split off.

    Oberlin & Verm 2021: K 32, L 4, additive, by `OBERLIN2021`: 60,636,544 parameters at 64x64. Asim et al. 2020, with
    `ASIM2020`: K 48 or 18 and L 4 at 64x64, K 32 and L 6 at 128x128: 67,159,936, 25,771,456 and 129,402,368.
    """

    name = "glow"

    class Settings(Flow.Settings):
        """Settings of `glow`."""

        levels: int = Field(4, ge=1, description="L: how often the image is squeezed")
        steps: int = Field(8, ge=1, description="K: flow steps per level")
        last_steps: int | None = Field(
            None, ge=1, description="flow steps in the last level; null: K, as in the others (Asim et al. 2020: 1)"
        )
        hidden: int = Field(128, ge=1, description="channels inside the coupling networks")
        coupling: Literal["affine", "additive"] = Field("affine", description="scale and shift, or shift alone")
        hidden_norm: Literal["none", "actnorm"] = Field(
            "none", description="what follows the two hidden convolutions of a coupling network, before its ReLU"
        )
        hidden_std: float | None = Field(
            None,
            ge=0,
            description="standard deviation of the hidden convolutions' first weights, biases 0; null: torch's start",
        )
        last_level_std: float = Field(
            0.0,
            ge=0,
            description="standard deviation of the first weights of last convolutions in the last level; 0 elsewhere",
        )
        coupling_bias: float = Field(
            0.0, ge=0, description="added to a coupling's scale sigmoid(s + 2): it can not fall below"
        )
        last_level_bias: float | None = Field(
            None, ge=0, description="the same in the last level; null: as in the others"
        )
        norm_epsilon: float = Field(
            0.0, ge=0, description="added to the scale of every actnorm, so that its inverse can not explode"
        )
        clip: float | None = Field(
            None, gt=0, description="hidden activations of coupling networks end at this value; null: no end"
        )
        scale_clip: float | None = Field(
            None, gt=0, description="s of a coupling's scale sigmoid(s + 2) stays in [-scale_clip, scale_clip]"
        )

        @model_validator(mode="after")
        def _scales_are_there(self) -> Glow.Settings:
            if self.coupling == "additive" and (self.coupling_bias or self.last_level_bias or self.scale_clip):
                raise ValueError(
                    "coupling: additive has no scale; leave out coupling_bias, last_level_bias and scale_clip"
                )
            return self

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        check_divisible(self.name, shape, settings.levels)
        levels, carried, channels = [], [], shape[0]
        for level in range(settings.levels):
            channels *= 4
            last = level == settings.levels - 1
            count = settings.last_steps if last and settings.last_steps is not None else settings.steps
            design, rule = network_of(settings, last), rule_of(settings, last)
            steps = [glow_step(channels, design, rule, settings.norm_epsilon) for _ in range(count)]
            levels.append(Chain([Squeeze(), *(part for step in steps for part in step)]))
            if not last:
                channels //= 2
                carried.append(channels)
        super().__init__(shape, settings, levels, carried)


def network_of(settings: Glow.Settings, last: bool) -> NetworkDesign:
    """The coupling networks of a level, or of the last one."""
    return NetworkDesign(
        settings.hidden,
        gained=True,
        normed=settings.hidden_norm == "actnorm",
        epsilon=settings.norm_epsilon,
        clip=settings.clip,
        hidden_std=settings.hidden_std,
        last_std=settings.last_level_std if last else 0.0,
    )


def rule_of(settings: Glow.Settings, last: bool) -> ScaleShift:
    """What the couplings of a level, or of the last one, make of their networks' answers."""
    if settings.coupling == "additive":
        return additive
    bias = settings.last_level_bias if last and settings.last_level_bias is not None else settings.coupling_bias
    return SigmoidAffine(bias, settings.scale_clip) if bias or settings.scale_clip else sigmoid_affine


def glow_step(channels: int, design: NetworkDesign, rule: ScaleShift, epsilon: float = 0.0) -> list[Bijection]:
    """One flow step: actnorm, 1x1 convolution, coupling with a 3x3 - 1x1 - 3x3 network.

    Args:
        channels: channels of the step's input, even.
        design: of the coupling network.
        rule: how the network's output becomes log-scale and shift.
        epsilon: constant added to the actnorm's scales.
    """
    half = channels // 2
    outputs = (1 if rule is additive else 2) * (channels - half)
    return [ActNorm(channels, epsilon), Mixing(channels), Coupling(design.build(half, outputs), rule)]
