"""What every operator shares that treats the rows and the columns of an image each by one matrix."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from flowprior.operators.base import Operator


class Separable(Operator):
    """A x = R x C^T in every channel: R acts along the height and C along the width.

    The singular values of A are the products of those of R and C, so that its pseudo-inverse costs two small
    decompositions, whatever the number of values of an image.
    """

    #: Singular values of A below this share of the largest count as zero in A_dagger.
    rtol: ClassVar[float] = 1e-8

    @abstractmethod
    def _factor(self, side: int, like: Tensor) -> Tensor:
        """The matrix (measured side, side) along a side of so many pixels, of the type and on the device of `like`."""

    def _measured(self, side: int) -> int:
        """Rows of that matrix; as many as pixels unless the operator says otherwise."""
        return side

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """The image's channels, and each side as its matrix leaves it."""
        channels, height, width = self.shape
        return channels, self._measured(height), self._measured(width)

    def A(self, x: Tensor) -> Tensor:
        """Both matrices, one after the other."""
        rows, columns = self._factors(x)
        return rows @ x @ columns.T

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Both transposes."""
        rows, columns = self._factors(y)
        return rows.T @ y @ columns

    def A_dagger(self, y: Tensor) -> Tensor:
        """Divide by the singular values of A, in float64; those below `rtol` of the largest are left out."""
        wide = y.double()
        (left, s, right), (above, t, below) = (
            torch.linalg.svd(factor, full_matrices=False) for factor in self._factors(wide)
        )
        strength = s[:, None] * t
        inverse = torch.where(strength > self.rtol * strength.max(), 1 / strength, 0.0)
        return (right.T @ ((left.T @ wide @ above) * inverse) @ below).to(y)

    def _factors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        _, height, width = self.shape
        return self._factor(height, like), self._factor(width, like)
