"""Flows run by a compiled kernel instead of torch's layers.

`program.py` writes any flow of the registered layers down as plain steps with folded constants; `kernel/` runs such
steps. `FixedFlow` is what solvers ask hundreds of times per image; `FixedLikelihood` is what training asks after each
change of the weights. The flow itself stays the reference that tests compare with.
"""

from flowprior.flows.fixed.flow import FixedFlow
from flowprior.flows.fixed.likelihood import FixedLikelihood, Share
from flowprior.flows.fixed.program import NotFoldableError, folded

__all__ = ["FixedFlow", "FixedLikelihood", "NotFoldableError", "Share", "folded"]
