"""What every operator that loses pixels shares: it is a projection, and so its own adjoint and pseudo-inverse."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from flowprior.operators.base import Operator


class Mask(Operator):
    """Lost pixels become zero in every channel; which are lost says the class of the mask."""

    @abstractmethod
    def known(self, like: Tensor) -> Tensor:
        """1 where pixels are known, else 0; shape (H, W), of the type and on the device of `like`."""

    def A(self, x: Tensor) -> Tensor:
        """Set lost pixels to zero."""
        return x * self.known(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The same projection."""
        return self.A(y)

    def A_dagger(self, y: Tensor) -> Tensor:
        """The same projection: the least-norm image has zeros where pixels are lost."""
        return self.A(y)
