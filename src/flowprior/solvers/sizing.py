"""How many rows are solved at once, from what one row needs and what there is."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from flowprior.models.flows.base import Flow, FlowLike
from flowprior.registry import SettingsModel
from flowprior.solvers.frozen import asked, fixed_of

#: On the CPU larger batches are no faster: what a batch may take of the memory, in bytes.
_CPU_BUDGET = 256 * 2**20
#: Of a GPU's free memory: two jobs that ask at the same time fit beside each other.
_GPU_SHARE = 0.45
_MOST = 4096
#: Vectors of an image's size that Adam holds beside the flow's: iterates, moments, gradients, copies.
ADAM_VECTORS = 16
#: And L-BFGS for each remembered pair of a step and a gradient change.
_PAIR = 2
#: Rows when there is no flow: closed forms and block matching, whose cost does not depend on it.
_WITHOUT_FLOW = 64


def rows_at_once(prior: Any, memory: dict[Hashable, Any], vectors: int = ADAM_VECTORS) -> int:
    """Rows of a batch: as many as the memory of the prior's device holds, measured on one row.

    Args:
        prior: a flow, or what other solvers need.
        memory: of this prior (`Memory.of`).
        vectors: of an image's size that the search holds for each row.
    """
    if not isinstance(prior, Flow):
        return _WITHOUT_FLOW
    device = next(prior.parameters()).device
    budget = _GPU_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _CPU_BUDGET
    fixed = fixed_of(prior, memory)
    of_flow = fixed.bytes_per_image() if fixed is not None else _autograd_bytes(asked(prior, memory, "float32"), prior)
    of_row = of_flow + vectors * prior.dimensions * next(prior.parameters()).element_size()
    return max(1, min(_MOST, int(budget // of_row)))


def vectors_of(settings: SettingsModel) -> int:
    """Vectors of an image's size that a search with these settings holds for each row."""
    by_lbfgs = getattr(settings, "optimiser", "adam") == "lbfgs"
    return ADAM_VECTORS + (_PAIR * getattr(settings, "history", 0) if by_lbfgs else 0)


def _autograd_bytes(flow: FlowLike, prior: Flow) -> int:
    """What autograd keeps of one image more on its way through a flow for its gradient; weights are kept once."""
    reference = next(prior.parameters())
    one, two = (_kept(flow, reference.new_zeros(count, prior.dimensions)) for count in (1, 2))
    return two - one


def _kept(flow: FlowLike, z: Tensor) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        values, log_det = flow.inverse(z.requires_grad_(True))
    del values, log_det
    return sum(kept.values())
