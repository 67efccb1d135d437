"""Glow (Kingma & Dhariwal 2018), as Asim et al. 2020 and Oberlin & Verm 2021 use it."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from flowprior.models.flows.base import Flow, check_divisible
from flowprior.models.flows.layers import (
    ActNorm,
    Bijection,
    Chain,
    Coupling,
    Mixing,
    Squeeze,
    additive,
    sigmoid_affine,
)
from flowprior.models.flows.layers.coupling import ScaleShift
from flowprior.registry import SettingsModel


class Glow(Flow):
    """L levels of: squeeze, K steps of (actnorm, 1x1 convolution, coupling), half of the channels split off.

    Settings of the papers: Asim et al. use K 48, L 4, width 512, affine (67.2 M parameters at 64x64);
    Oberlin & Verm K 32, L 4, additive.
    """

    name = "glow"

    class Settings(SettingsModel):
        """Settings of `glow`."""

        levels: int = Field(4, ge=1, description="L: how often the image is squeezed")
        steps: int = Field(8, ge=1, description="K: flow steps per level")
        hidden: int = Field(128, ge=1, description="channels inside the coupling networks")
        coupling: Literal["affine", "additive"] = Field("affine", description="scale and shift, or shift alone")

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        check_divisible(self.name, shape, settings.levels)
        outputs, rule = _COUPLINGS[settings.coupling]
        levels, carried, channels = [], [], shape[0]
        for level in range(settings.levels):
            channels *= 4
            steps = [
                glow_step(channels, settings.hidden, outputs, rule, signal_gain=True) for _ in range(settings.steps)
            ]
            levels.append(Chain([Squeeze(), *(part for step in steps for part in step)]))
            if level < settings.levels - 1:
                channels //= 2
                carried.append(channels)
        super().__init__(shape, settings, levels, carried)


_COUPLINGS: dict[str, tuple[int, ScaleShift]] = {"affine": (2, sigmoid_affine), "additive": (1, additive)}


def glow_step(channels: int, hidden: int, outputs: int, rule: ScaleShift, signal_gain: bool) -> list[Bijection]:
    """One flow step: actnorm, 1x1 convolution, coupling with a 3x3 - 1x1 - 3x3 network.

    Args:
        channels: channels of the step's input, even.
        hidden: channels inside the coupling network.
        outputs: values that `rule` needs per changed channel.
        rule: how the network's output becomes log-scale and shift.
        signal_gain: whether the last convolution has Glow's learned gain exp(3 * log_scale).
    """
    half = channels // 2
    return [
        ActNorm(channels),
        Mixing(channels),
        Coupling(coupling_network(half, hidden, outputs * (channels - half), signal_gain), rule),
    ]


def coupling_network(inputs: int, hidden: int, outputs: int, signal_gain: bool) -> nn.Sequential:
    """3x3 - 1x1 - 3x3 convolutions; the last starts at zero, so that a fresh coupling is simple."""
    last = GainedConv(hidden, outputs) if signal_gain else nn.Conv2d(hidden, outputs, 3, padding=1)
    convolution = last.convolution if isinstance(last, GainedConv) else last
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, hidden, 1),
        nn.ReLU(inplace=True),
        last,
    )


class GainedConv(nn.Module):
    """A 3x3 convolution times exp(3 * log_gain) per channel, as Glow's zero-initialised last layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.log_gain = nn.Parameter(torch.zeros(1, outputs, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and scale."""
        return self.convolution(x) * (3.0 * self.log_gain).exp()
