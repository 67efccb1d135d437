"""Proximal maps of an unfolded algorithm: towards what images are like, through a flow's latents or by a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flowprior.errors import FlowpriorError, UnknownNameError
from flowprior.models.capabilities import Denoises
from flowprior.models.evaluator import evaluator
from flowprior.models.flows.base import Flow
from flowprior.models.flows.registry import REGISTRY as FLOWS
from flowprior.models.flows.registry import build as build_flow
from flowprior.models.networks.proximal import KINDS, NetworkSettings, check_network, proximal_network
from flowprior.registry import validated

#: From latents (N, D) and a strength to latents nearer to the origin.
Shrink = Callable[[Tensor, Tensor], Tensor]


def shrunk_normal(z: Tensor, strength: Tensor) -> Tensor:
    """Z / (1 + strength), the proximal map of a standard normal (Eq. 10 of Wei et al. 2022)."""
    return z / (1 + strength)


def shrunk_laplace(z: Tensor, strength: Tensor) -> Tensor:
    """Soft thresholding, the proximal map of a Laplace density: towards zero by the strength, and no further."""
    return z.sign() * (z.abs() - strength).clamp(min=0)


class FlowProximal(nn.Module):
    """G(shrink(F(x))): latents of an image, made smaller, and the image of those (Eq. 9 to 11 of Wei et al. 2022).

    Args:
        flow: F, with its inverse G.
        shrink: how latents are made smaller.
        by_level: whether the latents of each level have a strength of their own.
    """

    def __init__(self, flow: Flow, shrink: Shrink, by_level: bool) -> None:
        super().__init__()
        self.flow, self.shrink = flow, shrink
        sizes = flow.latent_sizes
        #: How many strengths there are, and how many latent values each is for.
        self.sizes = sizes if by_level else [sum(sizes)]

    by_batch = False
    first_strength = 1.0

    @property
    def strengths(self) -> int:
        """How many strengths it takes."""
        return len(self.sizes)

    @property
    def passes(self) -> int:
        """There, and back."""
        return 2

    def forward(self, x: Tensor, strength: Tensor) -> Tensor:
        """Images (N, C, H, W) at strengths (S,), differentiable by all of them and by the flow's weights."""
        return self.by(self.flow)(x, strength)

    def origin(self) -> Tensor:
        """The image of the latent zero (1, C, H, W): the first iterate of the paper."""
        return self.by(self.flow).origin()

    def by(self, flow: Any) -> FlowAsked:
        """The same map, whoever computes its flow: the flow itself, or one of `flowprior.models.flows.evaluators`."""
        return FlowAsked(flow, self)

    @contextmanager
    def fixed(self, threads: int) -> Iterator[FlowAsked]:
        """The same without gradients, as the flow is computed fastest while its weights stand still."""
        with evaluator(self.flow, threads, gradients=False) as asked:
            yield self.by(asked)

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Set the flow's norms from images."""
        self.flow.initialise(images)

    def begin_with(self, model: Any) -> None:
        """Take the weights of a flow of the same kind.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(model, Flow):
            raise ValueError(f"it is no flow but {type(model).__name__}")
        _copy(model, self.flow)


@dataclass(frozen=True)
class FlowAsked:
    """A flow's proximal map, computed by the flow itself or in its place.

    Attributes:
        flow: who computes F and G.
        map: whose strengths and shrinkage.
    """

    flow: Any
    map: FlowProximal

    def __call__(self, x: Tensor, strength: Tensor) -> Tensor:
        """As `FlowProximal.forward`."""
        each = torch.cat([one.expand(size) for one, size in zip(strength, self.map.sizes, strict=True)])
        found: Tensor = self.flow.inverse(self.map.shrink(self.flow.forward(x)[0], each))[0]
        return found

    def origin(self) -> Tensor:
        """As `FlowProximal.origin`."""
        weights = next(self.map.flow.parameters())
        found: Tensor = self.flow.inverse(weights.new_zeros(1, self.map.flow.dimensions))[0]
        return found


class NetworkProximal(nn.Module):
    """X plus what a network sees in x and a noise level: a denoiser, as such networks are trained beforehand.

    Args:
        network: from C + 1 to C channels; the last it is given holds the noise level, on values in [0, 1].
        again: whether activations are computed once more for the gradient instead of kept.
        by_batch: whether an image depends on the others of its batch while the network is trained.
    """

    strengths = passes = 1
    first_strength = 0.1

    def __init__(self, network: nn.Module, again: bool, by_batch: bool) -> None:
        super().__init__()
        self.network, self.by_batch, self._again = network, by_batch, again

    def forward(self, x: Tensor, strength: Tensor) -> Tensor:
        """Images (N, C, H, W) at a noise level (1,)."""
        seen = torch.cat([x, strength.to(x.dtype).expand(len(x), 1, *x.shape[2:])], 1)
        if self._again and torch.is_grad_enabled():
            found: Tensor = checkpoint(self.network, seen, use_reentrant=False, preserve_rng_state=False)
        else:
            found = self.network(seen)
        return x + found.to(x.dtype)

    @contextmanager
    def fixed(self, threads: int) -> Iterator[NetworkProximal]:
        """The same; torch keeps its own threads."""
        yield self

    def initialise(self, images: Tensor) -> None:
        """Nothing in it starts from images."""
        return

    def begin_with(self, model: Any) -> None:
        """Take the weights of a denoiser's network of the same kind.

        Raises:
            ValueError: it is none.
        """
        network = getattr(model, "network", None)
        if not isinstance(model, Denoises) or not isinstance(network, nn.Module):
            raise ValueError(f"it is no denoising network but {type(model).__name__}")
        _copy(network, self.network)


Proximal = FlowProximal | NetworkProximal
#: How a proximal map is computed: by its own layers, or by what stands for them.
Asked = FlowAsked | Proximal


def proximal_map(
    kind: str, shape: tuple[int, int, int], settings: dict[str, Any], shrink: Shrink, by_level: bool, reversible: bool
) -> Proximal:
    """A proximal map with fresh weights.

    Args:
        kind: a registered flow, or a network for images (`flowprior.models.networks.proximal`).
        shape: (C, H, W) of the images.
        settings: of the flow or network.
        shrink: of flows.
        by_level: of flows.
        reversible: whether memory does not grow with depth: flows keep outputs, networks their inputs.

    Raises:
        UnknownNameError: no such flow or network.
        FlowpriorError: a setting is misspelt or out of range.
    """
    if kind in FLOWS.names():
        memory = {"memory": "reversible"} if reversible else {}
        return FlowProximal(build_flow(kind, shape, **{**settings, **memory}), shrink, by_level)
    if kind not in KINDS:
        raise UnknownNameError("proximal map", kind, (*FLOWS.names(), *KINDS))
    found = validated(NetworkSettings, {**settings, "network": kind}, f"proximal map '{kind}'")
    check_network(kind, shape, found)
    if reversible and found.by_batch:
        raise FlowpriorError(
            f"memory: reversible computes activations twice, and the batch norms of prox '{kind}' would count them "
            "twice; set memory: plain, or norm: none in prox_settings"
        )
    return NetworkProximal(proximal_network(kind, shape[0] + 1, shape[0], found), reversible, found.by_batch)


def _copy(source: nn.Module, target: nn.Module) -> None:
    """Weights of one module to another of the same architecture.

    Raises:
        ValueError: it is of another one, with the first weight that tells.
    """
    found = {name: tuple(value.shape) for name, value in source.state_dict().items()}
    wanted = {name: tuple(value.shape) for name, value in target.state_dict().items()}
    if found != wanted:
        name = next(name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name))
        raise ValueError(f"its {name} is {found.get(name, 'absent')}, and {wanted.get(name, 'absent')} is wanted")
    target.load_state_dict(source.state_dict())
