"""The network inside Glow's couplings: three convolutions, with what stands around them by choice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowprior.models.flows.layers import ActNorm


@dataclass(frozen=True)
class NetworkDesign:
    """How the networks of a flow's couplings are built.

    Attributes:
        hidden: channels in between.
        gained: whether the last convolution has Glow's learned gain exp(3 * log_gain).
        normed: whether an actnorm follows each of the two hidden convolutions.
        epsilon: constant added to the scales of these actnorms.
        clip: hidden activations end at this value; None: they have no end.
        hidden_std: standard deviation of the hidden convolutions' first weights, their biases being 0; None: torch's.
        last_std: the same of the last convolution; at 0 a fresh coupling does not look at its kept half.
    """

    hidden: int
    gained: bool = False
    normed: bool = False
    epsilon: float = 0.0
    clip: float | None = None
    hidden_std: float | None = None
    last_std: float = 0.0

    def build(self, inputs: int, outputs: int) -> nn.Sequential:
        """3x3 - 1x1 - 3x3 convolutions."""
        # In this order: a seed gives the weights that it gave before.
        last = nn.Conv2d(self.hidden, outputs, 3, padding=1)
        first = nn.Conv2d(inputs, self.hidden, 3, padding=1)
        second = nn.Conv2d(self.hidden, self.hidden, 1)
        if self.hidden_std is not None:
            _start(first, self.hidden_std)
            _start(second, self.hidden_std)
        _start(last, self.last_std)
        return nn.Sequential(
            self._normed(first),
            self._rectified(),
            self._normed(second),
            self._rectified(),
            GainedConv(last) if self.gained else last,
        )

    def _normed(self, convolution: nn.Conv2d) -> nn.Module:
        return NormedConv(convolution, self.epsilon) if self.normed else convolution

    def _rectified(self) -> nn.Module:
        return nn.ReLU(inplace=True) if self.clip is None else nn.Hardtanh(0.0, self.clip, inplace=True)


def _start(convolution: nn.Conv2d, std: float) -> None:
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    if std:
        nn.init.normal_(convolution.weight, std=std)
    else:
        nn.init.zeros_(convolution.weight)


class GainedConv(nn.Module):
    """A convolution times exp(3 * log_gain) per channel, as Glow's last layer."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.log_gain = nn.Parameter(torch.zeros(1, convolution.out_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and scale."""
        answer: Tensor = self.convolution(x)
        return answer * (3.0 * self.log_gain).exp()


class NormedConv(nn.Module):
    """A convolution and an actnorm of its channels, as Glow's hidden layers; set from data as any actnorm."""

    def __init__(self, convolution: nn.Conv2d, epsilon: float = 0.0) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = ActNorm(convolution.out_channels, epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise."""
        normed: Tensor = self.norm(self.convolution(x))[0]
        return normed
