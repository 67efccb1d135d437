"""Networks inside couplings as plain convolutions: norms, gains and the order of their outputs folded into weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from flowprior.models.flows.chavez import ChavezNetwork, SizedConv
from flowprior.models.flows.coupling_networks import GainedConv, NormedConv
from flowprior.models.flows.layers import ActNorm


class NotFoldableError(Exception):
    """A layer that no step stands for; such a flow runs as it is."""


def is_plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module is of one of these classes, not of one derived from it, and nothing hooks into it."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    own = {"forward", "inverse", "log_prob", "sample"} & vars(module).keys()
    return type(module) in kinds and not own and not any(hooks)


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
        most: min(most, .) follows the ReLU; None: nothing does.
    """

    weight: Tensor
    bias: Tensor
    pad: int
    side: tuple[int, int]
    shuffle: bool = False
    relu: bool = False
    most: float | None = None

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
    if is_plain(network, ChavezNetwork):
        assert isinstance(network, ChavezNetwork)
        if not is_plain(network.norm, ActNorm):
            raise NotFoldableError(repr(network.norm))
        first = replace(_scaled(_within(network.first, side), network.norm), relu=True)
        last = _within(network.last, side)
        return (first,), Ending(last, network.log_scale.flatten())
    found: list[Ending] = []
    # Not `children()`: a part may stand there twice.
    for part in list(network) if is_plain(network, nn.Sequential) else [network]:  # type: ignore[call-overload]
        if is_plain(part, nn.ReLU, nn.Hardtanh) and found:
            found[-1] = Ending(_rectified(ended(found[-1:])[0], part))
        elif is_plain(part, GainedConv):
            assert isinstance(part, GainedConv)
            found.append(Ending(_padded(part.convolution, side), part.log_gain.flatten()))
        elif is_plain(part, NormedConv):
            assert isinstance(part, NormedConv)
            if not is_plain(part.norm, ActNorm):
                raise NotFoldableError(repr(part.norm))
            found.append(Ending(_scaled(_padded(part.convolution, side), part.norm)))
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
    if not is_plain(part, nn.Conv2d):
        raise NotFoldableError(repr(part))
    assert isinstance(part, nn.Conv2d)
    plain = part.stride == part.dilation == (1, 1) and part.groups == 1 and part.padding_mode == "zeros"
    if not plain or part.bias is None:
        raise NotFoldableError(repr(part))
    pad = part.padding[0]
    if not isinstance(pad, int) or part.padding != (pad, pad):
        raise NotFoldableError(repr(part))
    return Convolution(part.weight, part.bias, pad, side, shuffle)


def _within(part: SizedConv, side: tuple[int, int]) -> Convolution:
    if not is_plain(part, SizedConv):
        raise NotFoldableError(repr(part))
    return _plain(part.convolution, side, part.spread)


def _scaled(plain: Convolution, norm: ActNorm) -> Convolution:
    """A convolution and the norm of its channels."""
    scale = norm.log_scales.exp().flatten()
    shift = norm.shift.flatten() * scale
    channels = len(plain.weight) // 4 if plain.shuffle else len(plain.weight)
    if len(scale) != channels:
        raise NotFoldableError(f"{len(scale)} channels of {norm} on {channels} of a convolution")
    if plain.shuffle:
        scale, shift = scale.repeat_interleave(4), shift.repeat_interleave(4)
    return replace(plain, weight=plain.weight * scale.reshape(-1, 1, 1, 1), bias=plain.bias * scale + shift)


def _rectified(plain: Convolution, part: nn.Module) -> Convolution:
    """A convolution and the ReLU after it, which may have an end."""
    if isinstance(part, nn.ReLU):
        return replace(plain, relu=True)
    assert isinstance(part, nn.Hardtanh)
    if part.min_val != 0 or plain.relu:
        raise NotFoldableError(repr(part))
    return replace(plain, relu=True, most=part.max_val)
