"""A Gaussian with the training images' mean and covariance: the simplest prior of all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.operators.base import Operator

#: 64x64 colour images: a covariance of 1.2 GB. Beyond that a dense Gaussian is no baseline any more.
MAX_DIMENSIONS = 12288
_MIDDLE = 0.5


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance) over flat images in [0, 1].

    Attributes:
        shape: (C, H, W) of the images, D values.
        mean: (D,).
        covariance: (D, D).
    """

    shape: tuple[int, int, int]
    mean: Tensor
    covariance: Tensor

    @classmethod
    def fit(cls, images: Tensor) -> Gaussian:
        """Mean and covariance of images (N, C, H, W) in [0, 1], in float64.

        Raises:
            FlowpriorError: fewer than two images, or too many values for a dense covariance.
        """
        return cls.fit_parts(block.double() for block in images.split(4096))

    @classmethod
    def fit_parts(cls, parts: Iterable[Tensor]) -> Gaussian:
        """As `fit`, of images that come in parts (n, C, H, W) and are never held together.

        Products within a part are computed in its own type, sums of parts in float64.

        Raises:
            FlowpriorError: as `fit`.
        """
        count, total, products, shape = 0, torch.empty(0), torch.empty(0), (0, 0, 0)
        for part in parts:
            if count == 0:
                shape = (part.shape[1], part.shape[2], part.shape[3])
                dimensions = math.prod(shape)
                if dimensions > MAX_DIMENSIONS:
                    raise FlowpriorError(
                        f"a dense Gaussian takes at most {MAX_DIMENSIONS} values per image, got {dimensions}; "
                        "drop linear_mmse"
                    )
                total = torch.zeros(dimensions, dtype=torch.float64)
                products = torch.zeros(dimensions, dimensions, dtype=torch.float64)
            # Around mid-grey: of small numbers less is rounded away.
            values = part.flatten(1) - _MIDDLE
            count += len(values)
            total += values.double().sum(0)
            products += values.T @ values
        if count < 2:
            raise FlowpriorError(f"a covariance needs at least 2 images, got {count}")
        mean = total / count
        return cls(shape, mean + _MIDDLE, products / count - torch.outer(mean, mean))

    def mirrored(self, mirrors: int) -> Gaussian:
        """Mean and covariance of an image or one of its mirror images, each as likely.

        Args:
            mirrors: 1 none, 2 left to right, 4 upside down too.
        """
        places = torch.arange(len(self.mean)).reshape(self.shape)
        orders = [places, places.flip(-1), places.flip(-2), places.flip(-1, -2)][:mirrors]
        means = torch.stack([self.mean[order.flatten()] for order in orders])
        mean = means.mean(0)
        covariance = (means - mean).T @ (means - mean) / mirrors
        for order in orders:
            covariance += self.covariance[order.flatten()][:, order.flatten()] / mirrors
        return Gaussian(self.shape, mean, covariance)

    def observed(self, operator: Operator) -> Observed:
        """What every posterior mean under an operator needs, whatever the noise: the costly part of it."""
        # By the operator itself: its dense matrix would make each of these a product of D x D matrices.
        expected = operator.A(self.mean.reshape(1, *self.shape)).flatten()
        cross = operator.A(self.covariance.reshape(-1, *self.shape)).flatten(1)
        return Observed(self, expected, cross, operator.A(cross.T.reshape(-1, *self.shape)).flatten(1))

    def posterior_mean(self, operator: Operator, y: Tensor, noise_std: float) -> Tensor:
        """Posterior means of a batch; see `Observed.posterior_mean`."""
        return self.observed(operator).posterior_mean(y, noise_std)

    def save(self, path: Path) -> None:
        """Write mean and covariance as .npz, in float32."""
        with path.open("wb") as file:
            np.savez(
                file,
                shape=np.array(self.shape),
                mean=self.mean.numpy().astype(np.float32),
                covariance=self.covariance.numpy().astype(np.float32),
            )

    @classmethod
    def load(cls, path: Path) -> Gaussian:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            channels, height, width = (int(side) for side in arrays["shape"])
            return cls(
                (channels, height, width),
                torch.from_numpy(arrays["mean"]).double(),
                torch.from_numpy(arrays["covariance"]).double(),
            )


@dataclass(frozen=True)
class Observed:
    """A Gaussian seen through an operator, in float64.

    Attributes:
        gaussian: of the images.
        expected: A m, flat (M,).
        cross: C A^T (D, M).
        gram: A C A^T (M, M).
    """

    gaussian: Gaussian
    expected: Tensor
    cross: Tensor
    gram: Tensor

    def posterior(self, noise_std: float) -> Posterior:
        """What posterior means under noise of one size need, whatever the measurements.

        Args:
            noise_std: assumed noise sigma, on values in [0, 1].
        """
        gram = self.gram.clone()
        gram.diagonal().add_(noise_std**2)
        return Posterior(self, *torch.linalg.lu_factor(gram))

    def posterior_mean(self, y: Tensor, noise_std: float) -> Tensor:
        """Posterior means of a batch; see `Posterior.mean`."""
        return self.posterior(noise_std).mean(y)


@dataclass(frozen=True)
class Posterior:
    """A Gaussian seen through an operator with noise: A C A^T + sigma^2 I as its LU factors."""

    observed: Observed
    factors: Tensor
    pivots: Tensor

    def mean(self, y: Tensor) -> Tensor:
        """The image m + C A^T (A C A^T + sigma^2 I)^-1 (y - A m) for each of a batch.

        Args:
            y: measurements (N, *operator.measurement_shape).

        Returns:
            Images (N, C, H, W), not clipped, of y's type and device.
        """
        seen = self.observed
        mean = seen.gaussian.mean
        residual = y.detach().cpu().double().flatten(1) - seen.expected
        solution = torch.linalg.lu_solve(self.factors, self.pivots, residual.T)
        return (mean[:, None] + seen.cross @ solution).T.reshape(-1, *seen.gaussian.shape).to(y)
