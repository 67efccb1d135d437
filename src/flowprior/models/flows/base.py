"""What a flow is to everyone else, and the multi-scale body that all of them share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from flowprior.errors import FlowpriorError
from flowprior.models.flows.layers import ActNorm, Bijection
from flowprior.models.flows.layers.retracing import retraced
from flowprior.randomness import normal_rows
from flowprior.registry import SettingsModel


class Evaluator(Protocol):
    """What solvers ask of a flow, whoever computes it: the flow itself, or its folded steps by a kernel or by torch."""

    @property
    def name(self) -> str:
        """The registered name."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""

    @property
    def dimensions(self) -> int:
        """Number of values of an image, and of a latent."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.forward`."""

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.inverse`."""

    def log_prob(self, x: Tensor) -> Tensor:
        """As `Flow.log_prob`."""

    def sample(self, count: int, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """As `Flow.sample`."""


class Flow(nn.Module):
    """A bijection F between images and latent vectors, with a standard normal on the latents.

    Images are float (N, C, H, W) in [0, 1]; the flow's own range is its business. A latent is one flat vector
    of the same number of values, (N, C*H*W): the parts split off at each level one after the other.

    A flow is a list of levels; each is a bijection, after which the first `carried[i]` channels go on to the next
    level and the rest are latent. The last level's output is latent altogether.

    Args:
        shape: (C, H, W) of the images.
        settings: the flow's own settings.
        levels: one bijection per level.
        carried: channels that go on after each level but the last.
    """

    name: ClassVar[str]
    trained_by: ClassVar[str] = "flowprior.models.flows.learning:FlowTraining"
    #: The range that images are mapped to before the first layer.
    low: ClassVar[float] = -0.5
    high: ClassVar[float] = 0.5

    class Settings(SettingsModel):
        """Settings of one flow: those that every flow has."""

        memory: Literal["plain", "reversible"] = Field(
            "plain",
            description="what a gradient is computed from: activations that are kept, or (reversible) levels' outputs, "
            "from which they come again, so that memory does not grow with the steps of a level",
        )

    def __init__(
        self, shape: tuple[int, int, int], settings: Any, levels: Sequence[Bijection], carried: Sequence[int]
    ) -> None:
        super().__init__()
        self.shape = shape
        self.settings = settings
        self.reversible = getattr(settings, "memory", "plain") == "reversible"
        #: The folder that it was read from, if any; what lies beside may have been made of these weights.
        self.checkpoint: Path | None = None
        self.levels = nn.ModuleList(levels)
        self.carried = tuple(carried)

    @property
    def dimensions(self) -> int:
        """Number of values of an image, and of a latent."""
        return math.prod(self.shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """F: images in [0, 1] to latents.

        Returns:
            z of shape (N, C*H*W) and log |det dz/dx| of shape (N,), in nats.

        Raises:
            FlowpriorError: images of another shape.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise FlowpriorError(
                f"flow '{self.name}' was built for images of shape {self.shape}, got {tuple(x.shape[1:])}; "
                "resize them or build the flow for that shape"
            )
        h = x * (self.high - self.low) + self.low
        total = x.new_full((x.shape[0],), self._range_log_det)
        parts = []
        for level, keep in zip(self.levels, (*self.carried, 0), strict=True):
            h, log_det = self._through(level, h, back=False)
            total = total + log_det
            parts.append(h[:, keep:].flatten(1))
            h = h[:, :keep]
        return torch.cat(parts, dim=1), total

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """G = F^-1: latents to images, not clipped.

        Returns:
            x of shape (N, C, H, W) and log |det dx/dz| of shape (N,), in nats.
        """
        total = z.new_full((z.shape[0],), -self._range_log_det)
        h: Tensor | None = None
        parts = z.split(self.latent_sizes, dim=1)
        for level, part, shape in reversed(list(zip(self.levels, parts, self._latent_shapes, strict=True))):
            latent = part.reshape(z.shape[0], *shape)
            h = latent if h is None else torch.cat([h, latent], dim=1)
            h, log_det = self._through(level, h, back=True)
            total = total + log_det
        assert h is not None
        return (h - self.low) / (self.high - self.low), total

    def _through(self, level: nn.Module, h: Tensor, back: bool) -> tuple[Tensor, Tensor]:
        if self.reversible and torch.is_grad_enabled():
            who = f"flow '{self.name}' with memory: reversible"
            return retraced(level, h, back, list(level.parameters()), who)  # type: ignore[arg-type]
        passed: tuple[Tensor, Tensor] = level.inverse(h) if back else level(h)  # type: ignore[operator]
        return passed

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent: flat."""
        return (self.dimensions,)

    def encode(self, x: Tensor) -> Tensor:
        """Latents F(x) (N, D) of images."""
        z: Tensor = self(x)[0]
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Images G(z) (N, C, H, W), not clipped."""
        return self.inverse(z)[0]

    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x) in nats of images in [0, 1], as a continuous density; shape (N,)."""
        z, log_det = self(x)
        return standard_normal_log_prob(z) + log_det

    @torch.no_grad()
    def sample(self, count: int, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Images G(z) with z ~ N(0, temperature^2), not clipped; shape (count, C, H, W).

        Temperature 0 gives `count` times the image G(0); any other needs a generator.

        Raises:
            FlowpriorError: as `flowprior.randomness.normal_rows`.
        """
        reference = next(self.parameters(), torch.empty(0))
        z = normal_rows(count, self.dimensions, temperature, generator)
        return self.inverse(z.to(reference))[0]

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set every ActNorm from one batch of images, in the order in which the batch passes them."""
        hooks = [
            module.register_forward_pre_hook(lambda layer, args: layer.set_from(args[0]))
            for module in self.modules()
            if isinstance(module, ActNorm)
        ]
        try:
            self(x)
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def _range_log_det(self) -> float:
        return self.dimensions * math.log(self.high - self.low)

    @property
    def _latent_shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of the latent part of each level: every level quarters the area and quadruples channels."""
        channels, height, width = self.shape
        shapes = []
        for keep in (*self.carried, 0):
            channels, height, width = 4 * channels, height // 2, width // 2
            shapes.append((channels - keep, height, width))
            channels = keep
        return shapes

    @property
    def latent_sizes(self) -> list[int]:
        """How many values of a latent are split off at each level, the finest first."""
        return [math.prod(shape) for shape in self._latent_shapes]


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Log N(z; 0, I) in nats, one value per row of z (N, D)."""
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))


def bits_per_dim(log_prob: Tensor, dimensions: int, bits: int = 8) -> Tensor:
    """Bits per dimension on images of `bits` bits, from log p in nats of dequantised images in [0, 1].

    Example:
        >>> bits_per_dim(torch.zeros(1), dimensions=12).item()  # the uniform density needs all 8 bits
        8.0
    """
    return bits - log_prob / (dimensions * math.log(2))


def check_divisible(name: str, shape: tuple[int, int, int], levels: int) -> None:
    """Raise if an image cannot be halved `levels` times.

    Raises:
        FlowpriorError: naming the size and what would fit.
    """
    factor = 2**levels
    _, height, width = shape
    if height % factor or width % factor:
        raise FlowpriorError(
            f"flow '{name}' with {levels} levels needs height and width divisible by {factor}, got {height}x{width}; "
            "resize the images or use fewer levels"
        )
