"""What a linear measurement operator is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.registry import SettingsModel


class Operator(ABC):
    """A linear map A from images (N, C, H, W) to measurements, batch-wise.

    Operators hold no tensors of a device's: they compute on whatever device their argument lies.

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
            noise_std: standard deviation of the noise, in units of [0, 1] images.
            generator: source of the noise, drawn in one piece for the batch.
            noise: standard normal numbers of the measurement's shape, instead of a generator: how a pipeline gives
                each image its own noise (`flowprior.randomness.keyed_rows`).

        Raises:
            FlowpriorError: noise is asked for, but neither generator nor noise is given: it would not be repeatable.
        """
        y = self.A(x)
        if noise_std == 0:
            return y
        if noise is None:
            if generator is None:
                raise FlowpriorError(
                    f"noise_std is {noise_std}, but no generator was given; pass torch.Generator().manual_seed(0)"
                )
            noise = torch.randn(y.shape, generator=generator)
        return y + noise_std * noise.to(y)

    def matrix(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """A as a dense matrix (values of a measurement, values of an image), for closed-form baselines and tests.

        An operator that knows its matrix overrides this: it need not measure every image of a basis.
        """
        count = int(torch.tensor(self.shape).prod())
        basis = torch.eye(count, dtype=dtype).reshape(count, *self.shape)
        return self.A(basis).flatten(1).T.contiguous()
