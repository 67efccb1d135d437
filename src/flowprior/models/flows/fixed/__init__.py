"""Flows run by a compiled kernel instead of torch's layers.

`program.py` writes any flow of the registered layers down as plain steps with folded constants; `kernel/` runs such
steps on the CPU. `FixedFlow` is what solvers ask hundreds of times per image; `FixedLikelihood` is what training asks
after each change of the weights. `UnrolledFlow` runs the same steps by torch, where there is no kernel or on a GPU;
`GraphedFlow` launches them there at once. The flow itself stays the reference that tests compare with.
"""

from flowprior.models.flows.fixed.flow import FixedFlow
from flowprior.models.flows.fixed.graphed import GraphedFlow
from flowprior.models.flows.fixed.likelihood import FixedLikelihood, Share
from flowprior.models.flows.fixed.networks import NotFoldableError
from flowprior.models.flows.fixed.program import folded
from flowprior.models.flows.fixed.unrolled import UnrolledFlow

__all__ = [
    "FixedFlow",
    "FixedLikelihood",
    "GraphedFlow",
    "NotFoldableError",
    "Share",
    "UnrolledFlow",
    "folded",
]
