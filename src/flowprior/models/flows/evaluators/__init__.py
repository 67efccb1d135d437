"""Flows run by a compiled kernel instead of torch's layers.

`program.py` writes any flow of the registered layers down as plain steps with folded constants; `kernel/` runs such
steps on the CPU. `KernelFlow` is what solvers ask hundreds of times per image; `KernelLikelihood` is what training asks
after each change of the weights, and `WeightedFlow` what trains through a flow by another loss. `FoldedFlow` runs the
same steps by torch, where there is no kernel or on a GPU; `GraphFlow` launches them there at once. The flow itself
stays the reference that tests compare with.
"""

from flowprior.models.flows.evaluators.by_graphs import GraphFlow
from flowprior.models.flows.evaluators.by_kernel import KernelFlow
from flowprior.models.flows.evaluators.by_torch import FoldedFlow
from flowprior.models.flows.evaluators.likelihood import KernelLikelihood, Share
from flowprior.models.flows.evaluators.networks import NotFoldableError
from flowprior.models.flows.evaluators.program import folded
from flowprior.models.flows.evaluators.weighted import WeightedFlow

__all__ = [
    "FoldedFlow",
    "GraphFlow",
    "KernelFlow",
    "KernelLikelihood",
    "NotFoldableError",
    "Share",
    "WeightedFlow",
    "folded",
]
