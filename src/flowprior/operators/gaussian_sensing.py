"""Compressed sensing: fewer numbers than values, each a random mixture of the whole image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.operators.sensing import Sensing
from flowprior.randomness import keyed_rows

#: Rows that are drawn, converted or multiplied at once where the whole matrix would need another copy of itself.
_ROWS = 512
#: What the key of a row's numbers begins with.
_PURPOSE = "gaussian_sensing"


class GaussianSensing(Sensing):
    """y = A x with m rows of independent N(0, 1/m) numbers (Bora et al. 2017; Asim et al. 2020).

    A measurement is a vector (m,). The mean of ||A x||^2 over matrices is ||x||^2. Row i follows from the seed and i
    alone: a larger m has the rows of a smaller one first, on another scale. A is held once a device, in float32, and so
    is what A_dagger needs, in float64: at 64x64x3 and m = 12288 they are 0.6 and 1.2 GB. In bfloat16 A takes half;
    it is then another matrix, of numbers with three digits, and what is computed with it is as exact as before.

    Example:
        >>> sensing = GaussianSensing((1, 4, 4), GaussianSensing.Settings(measurements=5))
        >>> sensing.A(torch.ones(2, 1, 4, 4)).shape
        torch.Size([2, 5])
    """

    class Settings(Sensing.Settings):
        """Settings of `gaussian_sensing`."""

        storage: Literal["float32", "bfloat16"] = Field("float32", description="how its numbers are held")

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        super().__init__(shape, settings)
        self._matrices: dict[torch.device, Tensor] = {}
        self._factors: dict[torch.device, Tensor] = {}

    def A(self, x: Tensor) -> Tensor:
        """One product with the matrix for the whole batch."""
        flat = x.flatten(1)
        return torch.cat([flat @ rows.T for rows in self._rows(x)], dim=1)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """One product with its transpose."""
        total, start = y.new_zeros(len(y), self.values), 0
        for rows in self._rows(y):
            total = total + y[:, start : start + len(rows)] @ rows
            start += len(rows)
        return total.reshape(-1, *self.shape)

    def A_dagger(self, y: Tensor) -> Tensor:
        """A^T (A A^T)^-1 y, and the same once more of what that left of y.

        The condition of A A^T is the square of A's; the second pass gives back the accuracy that this cost.
        """
        x = self.A_adjoint(self._solve(y))
        return x + self.A_adjoint(self._solve(y - self.A(x)))

    def matrix(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The matrix itself, a copy."""
        return self._matrix(torch.device("cpu")).to(dtype, copy=True)

    def _rows(self, like: Tensor) -> Iterator[Tensor]:
        """A in the type of `like`: as a whole where it is held so, else in blocks that pass."""
        matrix = self._matrix(like.device)
        for rows in matrix.split(len(matrix) if like.dtype == matrix.dtype else _ROWS):
            yield rows.to(like.dtype)

    def _matrix(self, device: torch.device) -> Tensor:
        """A (m, values) as it is held, drawn on the CPU: every device has the same numbers."""
        if device not in self._matrices:
            count, values = self.settings.measurements, self.values
            matrix = torch.empty(count, values, device=device, dtype=getattr(torch, self.settings.storage))
            for start in range(0, count, _ROWS):
                numbers = range(start, min(start + _ROWS, count))
                drawn = keyed_rows(torch.randn, (values,), [(_PURPOSE, self.settings.seed, i) for i in numbers])
                matrix[start : start + _ROWS] = drawn / math.sqrt(count)
            self._matrices[device] = matrix
        return self._matrices[device]

    def _solve(self, y: Tensor) -> Tensor:
        """(A A^T)^-1 y."""
        return torch.cholesky_solve(y.double().T, self._factor(y.device)).T.to(y)

    def _factor(self, device: torch.device) -> Tensor:
        """The lower Cholesky factor of A A^T (m, m) in float64; of A A^T only the lower triangle is computed.

        Raises:
            FlowpriorError: A has rows that are dependent to float64's accuracy.
        """
        if device not in self._factors:
            count = self.settings.measurements
            gram = torch.zeros(count, count, dtype=torch.float64, device=device)
            # In place where it can be: at m = 20000 each further matrix is 3.2 GB.
            for above in range(0, count, _ROWS):
                rows = self._matrix(device)[above : above + _ROWS].double()
                for left in range(0, above + 1, _ROWS):
                    others = self._matrix(device)[left : left + _ROWS].double()
                    gram[above : above + _ROWS, left : left + _ROWS] = rows @ others.T
            failed = torch.empty(0, dtype=torch.int32, device=device)
            factor, failed = torch.linalg.cholesky_ex(gram, out=(gram, failed))
            if failed:
                raise FlowpriorError(
                    f"the matrix of seed {self.settings.seed} has no stable pseudo-inverse; take another seed"
                )
            self._factors[device] = factor
        return self._factors[device]
