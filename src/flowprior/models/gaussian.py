"""A Gaussian with the training images' mean and covariance: the simplest prior of all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.images.quantise import to_float
from flowprior.models.posterior import Observed
from flowprior.operators.base import Operator
from flowprior.randomness import normal_rows
from flowprior.tensors import derived_once

#: 64x64 colour images: a covariance of 1.2 GB. Beyond that a dense Gaussian is no baseline any more.
MAX_DIMENSIONS = 12288
_LARGE = 4096
_MIDDLE = 0.5
_IMAGES_AT_ONCE = 1024


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance) over flat images in [0, 1].

    Attributes:
        shape: (C, H, W) of the images, D values.
        mean: (D,).
        covariance: (D, D).
    """

    #: Made of the training images at once: no settings, no training.
    fitted: ClassVar[bool] = True
    #: Beyond this another form is taken.
    most_values: ClassVar[int] = MAX_DIMENSIONS

    shape: tuple[int, int, int]
    mean: Tensor
    covariance: Tensor

    @classmethod
    def fit(cls, images: Tensor) -> Gaussian:
        """Mean and covariance of images (N, C, H, W) in [0, 1], in float64.

        Raises:
            FlowpriorError: fewer than two images, or too many values for a dense covariance.
        """
        return cls.fit_parts(block.double() for block in images.split(_IMAGES_AT_ONCE))

    @classmethod
    def fit_pixels(cls, pixels: np.ndarray) -> Gaussian:
        """As `fit`, of uint8 images (N, H, W, C), which may be a memory map: a few of them are held at a time.

        Raises:
            FlowpriorError: as `fit`.
        """
        starts = range(0, len(pixels), _IMAGES_AT_ONCE)
        # Of large images in half the time; what that rounds is no more than what a file of float32 does.
        dtype = torch.float64 if pixels[0].size <= _LARGE else torch.float32
        return cls.fit_parts(to_float(np.asarray(pixels[i : i + _IMAGES_AT_ONCE])).to(dtype) for i in starts)

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
            products.addmm_(values.T, values) if values.dtype == products.dtype else products.add_(values.T @ values)
        if count < 2:
            raise FlowpriorError(f"a covariance needs at least 2 images, got {count}")
        mean = total / count
        # In place: of large images each further matrix of this size is a gigabyte.
        return cls(shape, mean + _MIDDLE, products.div_(count).addr_(mean, mean, alpha=-1))

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

    @property
    def spectrum(self) -> Spectrum:
        """Principal axes; computed once for a covariance, at D = 3072 in seconds, at 12288 in minutes."""
        found: Spectrum = self._once("spectrum", lambda: Spectrum.of(self.covariance))
        return found

    @property
    def root(self) -> Tensor:
        """A matrix R (D, D) with R R^T = C: the Cholesky factor where there is one, else by the spectrum."""
        found: Tensor = self._once("root", self._root)
        return found

    def _root(self) -> Tensor:
        factor, failed = torch.linalg.cholesky_ex(self.covariance)
        if not failed:
            return factor
        spectrum = self.spectrum
        return spectrum.axes * spectrum.variances.sqrt()

    def _once(self, name: str, derive: Callable[[], Any]) -> Any:
        """What is derived from the covariance, again only when that was changed in place."""
        return derived_once(self, name, [self.covariance], derive)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats of images (N, C, H, W): (N,), of x's type and device; differentiable.

        Raises:
            FlowpriorError: the covariance has directions without variance: there is no density.
        """
        spectrum = self.spectrum
        variances = spectrum.variances
        if rank := int((variances == 0).sum()):
            raise FlowpriorError(
                f"the Gaussian has no variance in {rank} of {len(variances)} directions and so no density; "
                "fit it on more images, or on images with a little noise"
            )
        whitened = self._centred(x) @ spectrum.axes / variances.sqrt()
        constant = variances.log().sum() + len(variances) * math.log(2 * math.pi)
        return (-0.5 * (whitened.square().sum(1) + constant)).to(x)

    def sample(self, count: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Images (count, C, H, W), not clipped, float32.

        Args:
            count: how many.
            temperature: factor of all standard deviations; 0 gives the mean.
            generator: source of the random numbers; any temperature but 0 needs one.

        Raises:
            FlowpriorError: as `flowprior.randomness.normal_rows`.
        """
        noise = normal_rows(count, len(self.mean), temperature, generator)
        return self.coloured(noise.to(self.mean.device)).float()

    def coloured(self, noise: Tensor) -> Tensor:
        """Draws in float64 (N, C, H, W) from standard normal numbers (N, D): mean + C^(1/2) noise."""
        return (self.mean + noise.double() @ self.root.T).reshape(-1, *self.shape)

    def denoise(self, x: Tensor, std: float | Tensor) -> Tensor:
        """The posterior mean m + C (C + std^2 I)^-1 (x - m) under white noise; see `capabilities.Denoises`.

        Directions without variance have the mean's value, at any noise and at none.
        """
        spectrum = self.spectrum
        axes, variances = spectrum.axes, spectrum.variances
        noise = torch.as_tensor(std, dtype=torch.float64).cpu().reshape(-1, 1).square()
        total = variances + noise
        kept = torch.where(total > 0, variances / torch.where(total > 0, total, 1.0), 0.0)
        return (self.mean + (self._centred(x) @ axes * kept) @ axes.T).reshape(-1, *self.shape).to(x)

    def _centred(self, x: Tensor) -> Tensor:
        return x.cpu().double().flatten(1) - self.mean

    def observed(self, operator: Operator) -> Observed:
        """What every posterior under an operator needs, whatever the noise: the costly part of it."""
        # By the operator itself: its dense matrix would make each of these a product of D x D matrices.
        cross = operator.A(self.covariance.reshape(-1, *self.shape)).flatten(1)
        gram = operator.A(cross.T.reshape(-1, *self.shape)).flatten(1)
        return Observed(self, operator, cross, gram)

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
class Spectrum:
    """Principal axes of a covariance.

    Attributes:
        axes: orthonormal, one per column (D, D).
        variances: along each (D,); those that rounding does not tell from zero are zero.
    """

    axes: Tensor
    variances: Tensor

    @classmethod
    def of(cls, covariance: Tensor) -> Spectrum:
        """Of a symmetric matrix (D, D) without negative directions, but for rounding."""
        variances, axes = torch.linalg.eigh(covariance)
        smallest = variances[-1] * len(variances) * torch.finfo(variances.dtype).eps
        return cls(axes, torch.where(variances > smallest, variances, 0.0))
