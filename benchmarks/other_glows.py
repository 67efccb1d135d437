"""A Glow of flowprior's shape in other libraries, built of the parts that they offer for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flowprior.models.flows.base import standard_normal_log_prob

SHAPE = (3, 32, 32)
LEVELS, STEPS, HIDDEN = 3, 4, 64


@dataclass(frozen=True)
class Peer:
    """A Glow of another library.

    Attributes:
        about: what it is made of.
        model: all of it.
        log_prob: in nats, of images in [0, 1].
        learned: the weights that training changes; fixed matrices are not among them.
    """

    about: str
    model: nn.Module
    log_prob: Callable[[Tensor], Tensor]
    learned: tuple[nn.Parameter, ...]


def normflows_glow() -> Peer:
    """`MultiscaleFlow` of `GlowBlock`, with the full 1x1 matrix as in flowprior.

    Raises:
        ImportError: normflows is not installed.
    """
    import normflows as nf

    channels, side = SHAPE[0], SHAPE[1]
    bases, levels, merges = [], [], []
    # From the coarsest level to the finest; half of the channels is split off between them.
    for level in range(LEVELS):
        blocks = [nf.flows.GlowBlock(channels * 2 ** (LEVELS + 1 - level), HIDDEN, use_lu=False) for _ in range(STEPS)]
        levels.append([*blocks, nf.flows.Squeeze()])
        merges += [nf.flows.Merge()] if level else []
        width, height = channels * 2 ** (LEVELS - level if level else LEVELS + 1), side // 2 ** (LEVELS - level)
        bases.append(nf.distributions.DiagGaussian((width, height, height), trainable=False))
    model = nf.MultiscaleFlow(bases, levels, merges, class_cond=False)
    about = "MultiscaleFlow of GlowBlock, full 1x1 matrices"
    return _peer(about, model, lambda x: model.log_prob(x - 0.5, None))


def freia_glow() -> Peer:
    """`GraphINN` of two-sided `GLOWCouplingBlock`s: one of them changes both halves, as two steps of Glow do.

    Raises:
        ImportError: FrEIA is not installed.
    """
    from FrEIA import modules

    def block(channels: int) -> list[tuple[Any, dict[str, Any]]]:
        rotation = torch.linalg.qr(torch.randn(channels, channels)).Q
        return [
            (modules.ActNorm, {}),
            (modules.Fixed1x1Conv, {"M": rotation}),
            (modules.GLOWCouplingBlock, {"subnet_constructor": _network}),
        ]

    about = f"GraphINN of ActNorm, Fixed1x1Conv, two-sided GLOWCouplingBlock: {STEPS // 2} of each a level"
    return _freia(about, block, STEPS // 2)


def freia_all_in_one() -> Peer:
    """`GraphINN` of `AllInOneBlock`s: coupling, scale and fixed rotation, one for each step of Glow.

    Raises:
        ImportError: FrEIA is not installed.
    """
    from FrEIA import modules

    def block(channels: int) -> list[tuple[Any, dict[str, Any]]]:
        return [(modules.AllInOneBlock, {"subnet_constructor": _network, "permute_soft": True})]

    return _freia(f"GraphINN of AllInOneBlock with rotations: {STEPS} a level", block, STEPS)


#: name -> (package, how it is built)
PEERS: dict[str, tuple[str, Callable[[], Peer]]] = {
    "normflows": ("normflows", normflows_glow),
    "FrEIA": ("FrEIA", freia_glow),
    "FrEIA (all in one)": ("FrEIA", freia_all_in_one),
}


def _freia(about: str, block: Callable[[int], list[tuple[Any, dict[str, Any]]]], blocks: int) -> Peer:
    from FrEIA import framework, modules

    nodes = [framework.InputNode(*SHAPE)]

    def append(module: Any, settings: dict[str, Any], behind: Any = None) -> Any:
        nodes.append(framework.Node(nodes[-1] if behind is None else behind, module, settings))
        return nodes[-1]

    behind = None
    for level in range(LEVELS):
        append(modules.IRevNetDownsampling, {}, behind)
        for _ in range(blocks):
            for module, settings in block(nodes[-1].output_dims[0][0]):
                append(module, settings)
        if level < LEVELS - 1:
            split = append(modules.Split, {})
            nodes.append(framework.OutputNode(split.out1))
            behind = split.out0
    nodes.append(framework.OutputNode(nodes[-1]))
    model = framework.GraphINN(nodes)

    def log_prob(x: Tensor) -> Tensor:
        parts, log_det = model(x - 0.5)
        return standard_normal_log_prob(torch.cat([part.flatten(1) for part in parts], 1)) + log_det

    return _peer(about, model, log_prob)


def _peer(about: str, model: nn.Module, log_prob: Callable[[Tensor], Tensor]) -> Peer:
    return Peer(about, model, log_prob, tuple(weight for weight in model.parameters() if weight.requires_grad))


def _network(inputs: int, outputs: int) -> nn.Module:
    """3x3 - 1x1 - 3x3 convolutions, the last at zero, as in Glow."""
    last = nn.Conv2d(HIDDEN, outputs, 3, padding=1)
    assert last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    first, middle = nn.Conv2d(inputs, HIDDEN, 3, padding=1), nn.Conv2d(HIDDEN, HIDDEN, 1)
    return nn.Sequential(first, nn.ReLU(), middle, nn.ReLU(), last)
