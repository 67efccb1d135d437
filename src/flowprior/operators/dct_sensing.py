"""Compressed sensing without a matrix: random signs, a cosine transform, and some of its coefficients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowprior.operators.sensing import Sensing
from flowprior.randomness import keyed_rows


class DCTSensing(Sensing):
    """y = sqrt(N/m) S C D x: D random signs, C the orthonormal 3-D DCT-II, S m of its N coefficients.

    Behaves as `gaussian_sensing` of the same m, at the cost of three small products for each image and without memory:
    the rows are orthogonal, of length sqrt(N/m), so that the mean of ||A x||^2 over seeds is ||x||^2 as well, and
    A_dagger = m/N A^T. For images whose Gaussian matrix would not fit.

    Example:
        >>> sensing = DCTSensing((1, 4, 4), DCTSensing.Settings(measurements=5))
        >>> sensing.A(torch.ones(2, 1, 4, 4)).shape
        torch.Size([2, 5])
    """

    def __init__(self, shape: tuple[int, int, int], settings: Sensing.Settings) -> None:
        super().__init__(shape, settings)
        signs, order = (
            keyed_rows(torch.rand, (self.values,), [("dct_sensing", settings.seed, what)])[0]
            for what in ("signs", "coefficients")
        )
        self._signs = torch.where(signs < 0.5, -1.0, 1.0).reshape(shape)
        self._places = order.argsort(stable=True)[: settings.measurements]

    def A(self, x: Tensor) -> Tensor:
        """Signs, transform, selection."""
        mixed = _along_axes(x * self._signs.to(x), [dct_matrix(side).to(x) for side in self.shape])
        return self._gain * mixed.flatten(1)[:, self._places.to(x.device)]

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The same backwards."""
        spread = y.new_zeros(len(y), self.values).index_copy(1, self._places.to(y.device), self._gain * y)
        back = [dct_matrix(side).T.to(y) for side in self.shape]
        return _along_axes(spread.reshape(-1, *self.shape), back) * self._signs.to(y)

    def A_dagger(self, y: Tensor) -> Tensor:
        """A^T over the squared length of its rows."""
        return self.A_adjoint(y) / self._gain**2

    @property
    def _gain(self) -> float:
        return math.sqrt(self.values / self.settings.measurements)


def dct_matrix(side: int) -> Tensor:
    """The orthonormal DCT-II of a vector as a matrix (side, side), float64.

    Example:
        >>> matrix = dct_matrix(4)
        >>> bool(torch.allclose(matrix @ matrix.T, torch.eye(4, dtype=torch.float64)))
        True
    """
    place = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / side * (place + 0.5) * place[:, None]) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


def _along_axes(x: Tensor, matrices: list[Tensor]) -> Tensor:
    """Each of an image's three axes multiplied by a matrix."""
    channels, rows, columns = matrices
    return torch.einsum("dc,nchw->ndhw", channels, rows @ x @ columns.T)
