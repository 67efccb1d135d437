"""What a linear measurement operator is."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.operators.checking import check_batch, check_noise_std, check_range
from flowprior.registry import SettingsModel


class Operator(ABC):
    """A linear map A from images (N, C, H, W) to measurements, batch-wise.

    Operators hold no tensors of a device's: they compute on whatever device their argument lies. Whatever a class
    defines as `A`, `A_adjoint` and `A_dagger` first checks its argument: none of them repeats that.

    Args:
        shape: (C, H, W) of the images.
        settings: the operator's own settings.
    """

    #: Whether a measurement is a picture: has channels, height and width.
    pictures: ClassVar[bool] = True

    class Settings(SettingsModel):
        """Settings of one operator."""

    def __init__(self, shape: tuple[int, int, int], settings: Any) -> None:
        self.shape = shape
        self.settings = settings

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the maps of a new operator check what they are given."""
        super().__init_subclass__(**options)
        for name, what in (("A", "images"), ("A_adjoint", "the measurement"), ("A_dagger", "the measurement")):
            if name in cls.__dict__:
                setattr(cls, name, _checked(cls.__dict__[name], what))

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """Shape of one measurement: that of an image unless the operator says otherwise; a vector is (m,)."""
        return self.shape

    @abstractmethod
    def A(self, x: Tensor) -> Tensor:
        """Measure without noise: (N, C, H, W) -> (N, *measurement_shape)."""

    @abstractmethod
    def A_adjoint(self, y: Tensor) -> Tensor:
        """The transpose: <A x, y> = <x, A_adjoint y>."""

    @abstractmethod
    def A_dagger(self, y: Tensor) -> Tensor:
        """The Moore-Penrose pseudo-inverse: the least-norm image among those that fit y best."""

    def measure(
        self,
        x: Tensor,
        noise_std: float = 0.0,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Y = A x + Gaussian noise.

        Args:
            x: images (N, C, H, W) in [0, 1].
            noise_std: standard deviation of the noise, in units of [0, 1] images: 25/255, not 25.
            generator: source of the noise, drawn in one piece for the batch, where the generator lies.
            noise: standard normal numbers of the measurement's shape, instead of a generator: how a pipeline gives
                each image its own noise (`flowprior.randomness.keyed_rows`).

        Raises:
            FlowpriorError: noise is asked for, but neither generator nor noise is given: it would not be repeatable;
                or images, noise_std or noise are of another shape, type or range.
        """
        y = self.A(x)
        check_range(x, "images")
        noise_std = check_noise_std(noise_std)
        if noise_std == 0:
            return y
        if noise is None:
            if generator is None:
                raise FlowpriorError(
                    f"noise_std is {noise_std}, but no generator was given; pass torch.Generator().manual_seed(0)"
                )
            if not isinstance(generator, torch.Generator):
                raise FlowpriorError(
                    f"generator must be a torch.Generator, got {generator!r}; pass torch.Generator().manual_seed(0)"
                )
            noise = torch.randn(y.shape, generator=generator, device=generator.device)
        if not isinstance(noise, Tensor) or noise.shape != y.shape:
            given = tuple(noise.shape) if isinstance(noise, Tensor) else type(noise).__name__
            raise FlowpriorError(
                f"noise must have the measurement's shape {tuple(y.shape)}, got {given}; draw one number for each value"
            )
        return y + noise_std * noise.to(y)

    def matrix(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """A as a dense matrix (values of a measurement, values of an image), for closed-form baselines and tests.

        An operator that knows its matrix overrides this: it need not measure every image of a basis.
        """
        count = int(torch.tensor(self.shape).prod())
        basis = torch.eye(count, dtype=dtype).reshape(count, *self.shape)
        return self.A(basis).flatten(1).T.contiguous()


def _checked(apply: Callable[[Any, Tensor], Tensor], what: str) -> Callable[[Any, Tensor], Tensor]:
    """A map that checks its argument."""

    @functools.wraps(apply)
    def checked(self: Operator, batch: Tensor) -> Tensor:
        check_batch(batch, self.shape if what == "images" else self.measurement_shape, what)
        return apply(self, batch)

    return checked
