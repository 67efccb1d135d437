"""Denoising: the image itself."""

from __future__ import annotations

from torch import Tensor

from flowprior.operators.base import Operator


class Identity(Operator):
    """A x = x; with noise, the denoising task of Chávez 2021."""

    def A(self, x: Tensor) -> Tensor:
        """The image."""
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The measurement."""
        return y

    def A_dagger(self, y: Tensor) -> Tensor:
        """The measurement."""
        return y
