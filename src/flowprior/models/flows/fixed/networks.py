"""Networks inside couplings as plain convolutions: norms, gains and the order of their outputs folded into weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from flowprior.models.flows.chavez import ChavezNetwork, SizedConv
from flowprior.models.flows.glow import GainedConv


class NotFoldableError(Exception):
    """A layer that no step stands for; such a flow runs as it is."""


@dataclass(frozen=True)
class Convolution:
    """A convolution with stride 1, and what follows it.

    Attributes:
        weight: (out, in, k, k).
        bias: (out,).
        pad: zeros around the map.
        side: (height, width) of its input.
        shuffle: whether depth goes to space, by 2, after it.
        relu: whether max(0, .) follows.
    """

    weight: Tensor
    bias: Tensor
    pad: int
    side: tuple[int, int]
    shuffle: bool = False
    relu: bool = False

    @property
    def output_side(self) -> tuple[int, int]:
        """(height, width) of its output, before depth goes to space."""
        grown = 2 * self.pad - self.weight.shape[2] + 1
        return self.side[0] + grown, self.side[1] + grown


@dataclass(frozen=True)
class Ending:
    """The last convolution of a network, and what is still to be folded into it.

    Attributes:
        convolution: without it.
        log_gain: per output; outputs are multiplied by exp(3 log_gain). None: they are not.
        even_first: whether even outputs are to come before odd ones.
    """

    convolution: Convolution
    log_gain: Tensor | None = None
    even_first: bool = False


def convolutions_of(network: nn.Module, side: tuple[int, int]) -> tuple[tuple[Convolution, ...], Ending]:
    """The convolutions of a network on maps of this side, the last of them unfinished: see `ended`.

    Raises:
        NotFoldableError: it is not made of convolutions and ReLUs alone, or ends in a ReLU.
    """
    if isinstance(network, ChavezNetwork):
        scale = network.norm.log_scale.exp().flatten()
        first = _sized(network.first, side, scale, network.norm.shift.flatten() * scale)
        last = _plain(network.last.convolution, side, network.last.spread)
        return (first,), Ending(last, network.log_scale.flatten())
    found: list[Ending] = []
    for part in network if isinstance(network, nn.Sequential) else [network]:
        if isinstance(part, nn.ReLU) and found:
            found[-1] = Ending(replace(ended(found[-1:])[0], relu=True))
        elif isinstance(part, GainedConv):
            found.append(Ending(_padded(part.convolution, side), part.log_gain.flatten()))
        else:
            found.append(Ending(_padded(part, side)))
    if not found or found[-1].convolution.relu:
        raise NotFoldableError(f"a coupling network that ends in a ReLU: {network}")
    return tuple(ended(found[:-1])), found[-1]


def ended(endings: Sequence[Ending]) -> list[Convolution]:
    """Convolutions with their gains and orders folded into them; those of one size are computed together."""
    groups: dict[tuple[object, ...], list[int]] = {}
    done = [ending.convolution for ending in endings]
    for number, ending in enumerate(endings):
        if ending.log_gain is not None or ending.even_first:
            key = (done[number].weight.shape, done[number].shuffle, ending.log_gain is None, ending.even_first)
            groups.setdefault(key, []).append(number)
    for numbers in groups.values():
        weights = torch.stack([done[number].weight for number in numbers])
        biases = torch.stack([done[number].bias for number in numbers])
        first = endings[numbers[0]]
        # Depth to space makes an output of four channels.
        each = 4 if first.convolution.shuffle else 1
        gains = [gain for gain in (endings[number].log_gain for number in numbers) if gain is not None]
        if gains:
            factors = (3.0 * torch.stack(gains)).exp().repeat_interleave(each, 1)
            weights, biases = weights * factors[:, :, None, None, None], biases * factors
        if first.even_first:
            weights, biases = (
                tensor.unflatten(1, (-1, 2, each)).transpose(1, 2).flatten(1, 3) for tensor in (weights, biases)
            )
        for number, weight, bias in zip(numbers, weights.unbind(), biases.unbind(), strict=True):
            done[number] = replace(done[number], weight=weight, bias=bias)
    return done


def _padded(part: nn.Module, side: tuple[int, int]) -> Convolution:
    """A convolution that keeps the map's size."""
    found = _plain(part, side)
    size, other = found.weight.shape[2:]
    if size != other or size % 2 == 0 or found.pad != (size - 1) // 2:
        raise NotFoldableError(repr(part))
    return found


def _plain(part: nn.Module, side: tuple[int, int], shuffle: bool = False) -> Convolution:
    plain = isinstance(part, nn.Conv2d) and part.bias is not None and part.stride == (1, 1) and part.groups == 1
    if not plain:
        raise NotFoldableError(repr(part))
    assert isinstance(part, nn.Conv2d) and part.bias is not None
    pad = part.padding[0]
    if not isinstance(pad, int) or part.padding != (pad, pad):
        raise NotFoldableError(repr(part))
    return Convolution(part.weight, part.bias, pad, side, shuffle)


def _sized(part: SizedConv, side: tuple[int, int], scale: Tensor, shift: Tensor) -> Convolution:
    """A `SizedConv` and the scale and shift per channel and the ReLU that follow it."""
    plain = _plain(part.convolution, side, part.spread)
    if part.spread:
        scale, shift = scale.repeat_interleave(4), shift.repeat_interleave(4)
    weight = plain.weight * scale.reshape(-1, 1, 1, 1)
    return replace(plain, weight=weight, bias=plain.bias * scale + shift, relu=True)
