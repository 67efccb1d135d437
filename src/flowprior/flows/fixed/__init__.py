"""Flows with fixed weights: what solvers ask hundreds of times per image, without autograd and without torch's layers.

`program.py` writes any flow of the registered layers down as plain steps with folded constants; `kernel/` runs such
steps; `FixedFlow` is both together. The flow itself stays the reference that tests compare with.
"""

from flowprior.flows.fixed.flow import FixedFlow
from flowprior.flows.fixed.program import NotFoldableError, folded

__all__ = ["FixedFlow", "NotFoldableError", "folded"]
