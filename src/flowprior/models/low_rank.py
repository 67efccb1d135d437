"""A Gaussian by its principal axes and one variance for all others: for images whose covariance has no place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.images.quantise import to_float
from flowprior.operators.base import Operator
from flowprior.optim.conjugate import conjugate_gradients
from flowprior.tensors import derived_once

#: Images whose span the axes are sought in, evenly spread over the training images; and axes at most.
IMAGES, RANK = 2048, 512


@dataclass(frozen=True)
class LowRankGaussian:
    """N(mean, U diag(variances) U^T + floor * (I - U U^T)) over flat images in [0, 1].

    Asks D x rank numbers where `Gaussian` asks D x D: 0.1 GB at 128x128 in colour. Beyond the axes all directions
    count alike, which costs detail: docs/asim2020.md says how many dB.

    Attributes:
        shape: (C, H, W) of the images, D values.
        mean: (D,).
        axes: orthonormal columns (D, r).
        variances: along the axes (r,), the largest first.
        floor: variance of every direction across them.
    """

    #: Made of the training images at once: no settings, no training.
    fitted: ClassVar[bool] = True

    shape: tuple[int, int, int]
    mean: Tensor
    axes: Tensor
    variances: Tensor
    floor: float

    @classmethod
    def fit_pixels(cls, pixels: np.ndarray, rank: int = RANK) -> LowRankGaussian:
        """Of uint8 images (N, H, W, C), which may be a memory map: some thousand of them are held at a time.

        Raises:
            FlowpriorError: fewer than three images.
        """
        count = min(len(pixels), IMAGES)
        if count < 3:
            raise FlowpriorError(f"principal axes need at least 3 images, got {count}")
        places = np.linspace(0, len(pixels) - 1, count).round().astype(int)
        images = to_float(np.asarray(pixels[places]))
        shape = (images.shape[1], images.shape[2], images.shape[3])
        values = images.flatten(1)
        mean = values.double().mean(0)
        centred = (values - mean.float()).double()
        # The axes of few images in many dimensions come from the products between images.
        squares, weights = torch.linalg.eigh(centred @ centred.T)
        kept = min(rank, count - 1)
        squares, weights = squares.flip(0)[:kept].clamp(min=0), weights.flip(1)[:, :kept]
        axes = torch.linalg.qr(centred.T @ weights).Q
        variances = squares / count
        left = centred.square().sum() / count - variances.sum()
        floor = max(float(left) / max(len(mean) - kept, 1), 1e-8)
        return cls(shape, mean, axes, variances.clamp(min=floor), floor)

    def observed(self, operator: Operator) -> LowRankObserved:
        """What every posterior mean under an operator needs, whatever the noise."""
        return LowRankObserved(self, operator, operator.A(self.axes.T.reshape(-1, *self.shape)).flatten(1))

    def save(self, path: Path) -> None:
        """Write as .npz, in float32."""
        with path.open("wb") as file:
            np.savez(
                file,
                shape=np.array(self.shape),
                mean=self.mean.numpy().astype(np.float32),
                axes=self.axes.numpy().astype(np.float32),
                variances=self.variances.numpy().astype(np.float32),
                floor=np.array(self.floor),
            )

    @classmethod
    def load(cls, path: Path) -> LowRankGaussian:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            channels, height, width = (int(side) for side in arrays["shape"])
            mean, axes, variances = (torch.from_numpy(arrays[name]).double() for name in ("mean", "axes", "variances"))
            return cls((channels, height, width), mean, axes, variances, float(arrays["floor"]))


@dataclass(frozen=True)
class LowRankObserved:
    """A low-rank Gaussian seen through an operator, in float64.

    Attributes:
        gaussian: of the images.
        operator: A.
        seen: A of each axis, flat (r, M).
    """

    gaussian: LowRankGaussian
    operator: Operator
    seen: Tensor

    def posterior_mean(self, y: Tensor, noise_std: float) -> Tensor:
        """The image m + C A^T (A C A^T + sigma^2 I)^-1 (y - A m) for each of a batch.

        By Woodbury's formula on the axes; the rest, floor * A A^T + sigma^2 I, which is well conditioned, by conjugate
        gradients through the operator.

        Args:
            y: measurements (N, *operator.measurement_shape).
            noise_std: assumed noise sigma, on values in [0, 1].

        Returns:
            Images (N, C, H, W), not clipped, of y's type and device.
        """
        own = self.gaussian
        through, core = derived_once(self, f"core_{noise_std}", [self.seen], lambda: self._core(noise_std))
        residual = y.detach().cpu().double().flatten(1) - self._measured(own.mean[None])
        first = self._rest_inverse(residual, noise_std)
        inner = torch.linalg.solve(core, self.seen @ first.T)
        solution = first - inner.T @ through
        # C = U (variances - floor) U^T + floor I.
        coefficients = (solution @ self.seen.T) * (own.variances - own.floor)
        back = self.operator.A_adjoint(solution.reshape(-1, *self.operator.measurement_shape)).flatten(1)
        images = own.mean + coefficients @ own.axes.T + own.floor * back
        return images.reshape(-1, *own.shape).to(y)

    def _core(self, noise_std: float) -> tuple[Tensor, Tensor]:
        """R^-1 of the axes' measurements (r, M), and S^-1 + (A U)^T R^-1 A U (r, r)."""
        own = self.gaussian
        through = self._rest_inverse(self.seen, noise_std)
        surplus = (own.variances - own.floor).clamp(min=1e-12)
        return through, torch.diag(1 / surplus) + self.seen @ through.T

    def _rest_inverse(self, values: Tensor, noise_std: float) -> Tensor:
        """(floor A A^T + sigma^2 I)^-1 of rows (n, M)."""
        shape = self.operator.measurement_shape

        def apply(rows: Tensor) -> Tensor:
            back = self.operator.A_adjoint(rows.reshape(-1, *shape))
            return self.gaussian.floor * self.operator.A(back).flatten(1) + noise_std**2 * rows

        return conjugate_gradients(apply, values)

    def _measured(self, images: Tensor) -> Tensor:
        return self.operator.A(images.reshape(-1, *self.gaussian.shape)).flatten(1)
