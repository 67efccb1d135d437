"""What linear measurements with noise say of a Gaussian's image: mean, standard deviation and draws, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.tensors import derived_once

if TYPE_CHECKING:
    from flowprior.models.gaussian import Gaussian
    from flowprior.operators.base import Operator


@dataclass(frozen=True)
class Observed:
    """A Gaussian seen through an operator, in float64.

    Attributes:
        gaussian: of the images.
        operator: A.
        cross: C A^T (D, M).
        gram: A C A^T (M, M).
    """

    gaussian: Gaussian
    operator: Operator
    cross: Tensor
    gram: Tensor

    def measured(self, images: Tensor) -> Tensor:
        """A x, flat (n, M), of flat images (n, D)."""
        return self.operator.A(images.reshape(-1, *self.gaussian.shape)).flatten(1)

    def posterior(self, noise_std: float) -> Posterior:
        """What posteriors under noise of one size need, whatever the measurements.

        Args:
            noise_std: assumed noise sigma, on values in [0, 1].
        """
        gram = self.gram.clone()
        gram.diagonal().add_(noise_std**2)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if failed:
            raise FlowpriorError(
                f"noise_std {noise_std:g} is too small for this operator and these images: what is left is lost "
                "in rounding; assume more noise"
            )
        return Posterior(self, noise_std, factor)

    def posterior_mean(self, y: Tensor, noise_std: float) -> Tensor:
        """Posterior means of a batch; see `Posterior.mean`."""
        return self.posterior(noise_std).mean(y)


@dataclass(frozen=True)
class Posterior:
    """A Gaussian seen through an operator with noise: A C A^T + sigma^2 I as its Cholesky factor."""

    observed: Observed
    noise_std: float
    factor: Tensor

    def mean(self, y: Tensor) -> Tensor:
        """The image m + C A^T (A C A^T + sigma^2 I)^-1 (y - A m) for each of a batch.

        Args:
            y: measurements (N, *operator.measurement_shape).

        Returns:
            Images (N, C, H, W), not clipped, of y's type and device.
        """
        seen = self.observed
        mean = seen.gaussian.mean
        residual = y.detach().cpu().double().flatten(1) - seen.measured(mean[None])
        solution = torch.cholesky_solve(residual.T, self.factor)
        return (mean[:, None] + seen.cross @ solution).T.reshape(-1, *seen.gaussian.shape).to(y)

    @property
    def std(self) -> Tensor:
        """Standard deviations (C, H, W) of each value, float64: the same for every measurement.

        The diagonal of C - C A^T (A C A^T + sigma^2 I)^-1 A C, of which rounding leaves about 1e-8.
        """
        seen = self.observed
        tensors = [seen.gaussian.covariance.diagonal(), seen.cross, self.factor]
        found: Tensor = derived_once(self, "std", tensors, self._std)
        return found

    def _std(self) -> Tensor:
        seen = self.observed
        explained = seen.cross.T * torch.cholesky_solve(seen.cross.T, self.factor)
        variance = seen.gaussian.covariance.diagonal() - explained.sum(0)
        return variance.clamp(min=0).sqrt().reshape(seen.gaussian.shape)

    @property
    def random_numbers(self) -> int:
        """Normal numbers that one draw takes: D for the prior's, M for the noise's."""
        return sum(self.observed.cross.shape)

    def prepare_samples(self) -> None:
        """Make what every draw needs: the root of the prior's covariance, which takes longest."""
        _ = self.observed.gaussian.root

    def samples(self, y: Tensor, noise: Tensor) -> Tensor:
        """Independent draws from the posterior, by Matheron's rule: a draw from the prior, corrected by what it lacks.

        x + C A^T (A C A^T + sigma^2 I)^-1 (y - A x - e), with x drawn from the prior and e from the noise.

        Args:
            y: measurements (N, *operator.measurement_shape).
            noise: standard normal numbers (N, `random_numbers`), those of x before those of e.

        Returns:
            Images (N, C, H, W), not clipped, of y's type and device.
        """
        seen, gaussian = self.observed, self.observed.gaussian
        prior = gaussian.coloured(noise[:, : len(gaussian.mean)].cpu()).flatten(1)
        measured = seen.measured(prior) + self.noise_std * noise[:, len(gaussian.mean) :].cpu().double()
        residual = y.detach().cpu().double().flatten(1) - measured
        correction = seen.cross @ torch.cholesky_solve(residual.T, self.factor)
        return (prior + correction.T).reshape(-1, *gaussian.shape).to(y)
