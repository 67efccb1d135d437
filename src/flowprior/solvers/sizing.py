"""How many rows are solved at once, from what one row needs and what there is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flowprior.models.capabilities import Decodes
from flowprior.models.evaluator import evaluator
from flowprior.registry import SettingsModel

#: On the CPU larger batches are no faster: what a batch may take of the memory, in bytes.
_CPU_BUDGET = 256 * 2**20
#: Of a GPU's free memory: two jobs that ask at the same time fit beside each other.
_GPU_SHARE = 0.45
_MOST = 4096
#: Bytes of a number that a row holds of its own: measurements are float32 as a rule.
_NUMBER = 4
#: Vectors of an image's size that Adam holds beside the flow's: iterates, moments, gradients, copies.
ADAM_VECTORS = 16
#: And L-BFGS for each remembered pair of a step and a gradient change.
_PAIR = 2
#: Rows when nothing is searched: closed forms and block matching, whose cost does not depend on it.
_WITHOUT_SEARCH = 64


def rows_at_once(
    prior: Any,
    vectors: int = ADAM_VECTORS,
    kernel: bool = True,
    own: int = 0,
    device: torch.device | None = None,
) -> int:
    """Rows of a batch: as many as the memory of the prior's device holds, measured on one row.

    Args:
        prior: a model that decodes, or what other solvers need.
        vectors: of an image's size that the search holds for each row.
        kernel: whether the compiled kernel may run it.
        own: numbers of its own that each row holds beside (`Solver.own_values`).
        device: where measurements lie, of a search without a prior; None: the CPU.
    """
    reference = next(prior.parameters(), None) if isinstance(prior, nn.Module) else None
    of_row = own * _NUMBER
    if reference is not None and isinstance(prior, Decodes):
        device = reference.device
        with evaluator(prior, kernel=kernel) as asked:
            known = getattr(asked, "bytes_per_image", None)
            latents = reference.new_zeros(2, math.prod(prior.latent_shape))
            of_model = known() if known else _autograd_bytes(asked, latents)
        of_row += of_model + vectors * math.prod(prior.shape) * reference.element_size()
    elif not own:
        return _WITHOUT_SEARCH
    of_gpu = device is not None and device.type == "cuda"
    budget = _GPU_SHARE * torch.cuda.mem_get_info(device)[0] if of_gpu else _CPU_BUDGET
    return max(1, min(_MOST, int(budget // of_row)))


def vectors_of(settings: SettingsModel) -> int:
    """Vectors of an image's size that a search with these settings holds for each row."""
    by_lbfgs = getattr(settings, "optimiser", "adam") == "lbfgs"
    return ADAM_VECTORS + (_PAIR * getattr(settings, "history", 0) if by_lbfgs else 0)


def _autograd_bytes(asked: Any, two: Tensor) -> int:
    """What autograd keeps of one latent more on its way to its image and back; weights are kept once."""
    return most_kept(asked.inverse, two) - most_kept(asked.inverse, two[:1])


class _Kept:
    """A tensor that autograd keeps, counted as long as it does."""

    def __init__(self, tensor: Tensor, counter: _Counter) -> None:
        self.tensor, self._counter = tensor, counter
        storage = tensor.untyped_storage()
        self._key, self._bytes = storage.data_ptr(), storage.nbytes()
        counter.add(self._key, self._bytes)

    def __del__(self) -> None:
        self._counter.remove(self._key, self._bytes)


class _Counter:
    """Bytes of different storages at once, now and at most."""

    def __init__(self) -> None:
        self._times: dict[int, int] = {}
        self._now = self.most = 0

    def add(self, key: int, size: int) -> None:
        times = self._times.get(key, 0)
        self._times[key] = times + 1
        self._now += 0 if times else size
        self.most = max(self.most, self._now)

    def remove(self, key: int, size: int) -> None:
        self._times[key] -= 1
        if not self._times[key]:
            del self._times[key]
            self._now -= size


def most_kept(function: Callable[[Tensor], tuple[Tensor, Tensor]], rows: Tensor) -> int:
    """Most bytes that autograd keeps at once, of values and log-determinants of rows and while it takes their gradient.

    The way back counts too: where activations are computed again, they are there only then.
    """
    counter = _Counter()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Kept(tensor, counter), lambda kept: kept.tensor):
        outputs = function(rows.detach().clone().requires_grad_(True))
        sums = [output.sum() for output in outputs if output.requires_grad]
        del outputs
        if sums:
            torch.stack(sums).sum().backward()
    return counter.most
