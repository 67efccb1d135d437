"""What a model can do, as protocols: a solver names the one it needs, and any model that has it will do.

| protocol | gives | who has it |
|---|---|---|
| `Decodes` | `latent_shape`, `decode(z) -> x` | flows, generators |
| `Density` | `log_prob(x)` | flows, the Gaussian |
| `Invertible` | both, `encode(x)`, log-determinants | flows |
| `Denoises` | `denoise(x, std) -> x` | the Gaussian, the denoiser |
| `Velocity` | `velocity(x, time)` | flow matching |
| `LinearEstimate` | the best linear estimate, given an operator | the Gaussian, that of low rank |
| `LinearGaussian` | the whole posterior in closed form, given an operator | the Gaussian |
| `Solves` | `solve(operator, y) -> x`: weights made for one task | networks trained for it |
| `Unfolds` | the same, and the images on the way | algorithms unfolded into a network |

Images are float (N, C, H, W) in [0, 1] throughout; `shape` is (C, H, W).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:  # what plans an experiment reads this, and starts without torch
    from torch import Tensor

    from flowprior.operators.base import Operator


@runtime_checkable
class Model(Protocol):
    """Anything that stands behind a solver as its prior: it is made for images of one shape."""

    shape: tuple[int, int, int]


@runtime_checkable
class Decodes(Model, Protocol):
    """A map from latents, of a shape of their own, to images; latents are standard normal unless it says otherwise."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""

    def decode(self, z: Tensor) -> Tensor:
        """Images G(z) (N, C, H, W), not clipped, of latents (N, *latent_shape)."""


@runtime_checkable
class Density(Model, Protocol):
    """A density over images."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x) in nats of images in [0, 1], as a continuous density (N,)."""


@runtime_checkable
class Invertible(Decodes, Density, Protocol):
    """A bijection between images and latents of as many values."""

    def encode(self, x: Tensor) -> Tensor:
        """Latents (N, *latent_shape) of images."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`encode(x)` and log |det dz/dx| (N,), in nats."""

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`decode(z)` and log |det dx/dz| (N,), in nats."""


@runtime_checkable
class Denoises(Model, Protocol):
    """An estimate of the clean image under white Gaussian noise."""

    def denoise(self, x: Tensor, std: float | Tensor) -> Tensor:
        """The posterior mean, or an estimate of it.

        Args:
            x: noisy images (N, C, H, W).
            std: standard deviation of the noise, on values in [0, 1]; one for all, or one for each image (N,).
        """


@runtime_checkable
class Velocity(Model, Protocol):
    """A velocity field that carries noise at time 0 to images at time 1."""

    def velocity(self, x: Tensor, time: float | Tensor) -> Tensor:
        """dx/dt at images x (N, C, H, W) and a time in [0, 1], one for all or one for each image (N,)."""


@runtime_checkable
class LinearEstimate(Model, Protocol):
    """Mean and covariance of images: what is seen of them through a linear operator has a best linear estimate."""

    def observed(self, operator: Operator) -> Any:
        """What every estimate under an operator needs, whatever the noise: `posterior_mean(y, noise_std)`."""


@runtime_checkable
class LinearGaussian(LinearEstimate, Protocol):
    """A Gaussian over images that can be drawn from; `observed` has whole posteriors (`flowprior.models.posterior`)."""

    def coloured(self, noise: Tensor) -> Tensor:
        """Draws in float64 (N, C, H, W) from standard normal numbers (N, D)."""


@runtime_checkable
class Solves(Model, Protocol):
    """Weights made for one task: from a measurement to the image at once."""

    def solve(self, operator: Operator, y: Tensor) -> Tensor:
        """Images (N, C, H, W), not clipped, from measurements (N, *operator.measurement_shape)."""


@runtime_checkable
class Unfolds(Solves, Protocol):
    """An algorithm of few steps as a network that was trained for one task."""

    def solve_in_folds(self, operator: Operator, y: Tensor) -> Iterator[Tensor]:
        """Images (N, C, H, W), not clipped, of the start and after each fold; the last are the answer."""


#: Every protocol that a solver may need.
CAPABILITIES = (Decodes, Density, Invertible, Denoises, Velocity, LinearEstimate, LinearGaussian, Solves, Unfolds)


def missing(model: object, wanted: type) -> list[str]:
    """What a model lacks of a protocol, by name; empty if it has all of it.

    Example:
        >>> missing(object(), Density)
        ['log_prob', 'shape']
    """
    return sorted({name for name, _ in _members(wanted) if not hasattr(model, name)})


def passes_of(model: object) -> int:
    """Passes through a network that one call of a model takes: its attribute `passes`, else one.

    A model that solves an ODE in 50 steps, or unfolds K steps, says so: cost is counted in these.
    """
    return int(getattr(model, "passes", 1))


def capabilities_of(model: type) -> tuple[str, ...]:
    """Names of the protocols whose methods a class has; what only its objects have (`shape`) is not asked for.

    Example:
        >>> class Half:
        ...     def log_prob(self, x): ...
        >>> capabilities_of(Half)
        ('Density',)
    """
    return tuple(
        wanted.__name__
        for wanted in CAPABILITIES
        if all(hasattr(model, name) for name, value in _members(wanted) if callable(value))
    )


def _members(wanted: type) -> Iterator[tuple[str, object]]:
    """Names that a protocol asks for, those of its own protocols included."""
    for base in wanted.__mro__:
        if getattr(base, "_is_protocol", False) and base is not Protocol:
            members = {**dict.fromkeys(vars(base).get("__annotations__", {})), **vars(base)}
            yield from ((name, value) for name, value in members.items() if not name.startswith("_"))
