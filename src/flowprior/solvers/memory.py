"""What calls of `solve` with the same prior share, and how a prior is known to be the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from flowprior.tensors import checksum

#: Where `Memory.of_caller` keeps itself in a caller's dict.
_PLACE = "flowprior.solvers.memory"


@dataclass
class Memory:
    """What was derived from priors: folded weights, Gaussians of samples.

    A prior is the same if it is the same object and its content is: every weight, bit by bit, where and in which type
    it lies, and whether it is in training mode. One that was trained on is another, and what was derived from it as it
    was before is dropped. A prior without tensors is known by the object alone.

    Args:
        kernel: whether the compiled kernel may run flows; without it torch does.
    """

    kernel: bool = True
    _found: list[tuple[Any, Hashable, dict[Hashable, Any]]] = field(default_factory=list)

    def of(self, prior: Any) -> dict[Hashable, Any]:
        """What was derived from a prior as it is now: what derived it -> what it gave."""
        content = content_of(prior)
        # The prior itself is held, so that no other takes its place in memory and passes for it.
        kept = [entry for entry in self._found if entry[0] is not prior or entry[1] == content]
        self._found[:] = kept
        for held, _, derived in kept:
            if held is prior:
                return derived
        derived = {} if self.kernel else {"fixed": None}
        self._found.append((prior, content, derived))
        return derived

    @classmethod
    def of_caller(cls, memory: Memory | dict[Hashable, Any] | None) -> Memory:
        """The memory that a caller of `solve` means: its own, one that lives in its dict, or a fresh one."""
        if isinstance(memory, Memory):
            return memory
        found = {} if memory is None else memory
        kept: Memory = found.setdefault(_PLACE, cls())
        return kept


def content_of(model: Any) -> Hashable:
    """What changes whenever a tensor of a model does: checksums of all values, types and places, and modes.

    Args:
        model: a module, or a dataclass that holds tensors; of anything else nothing is known.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = content_of(layer)
        >>> with torch.no_grad():
        ...     _ = layer.weight.add_(1)
        >>> content_of(layer) == before
        False
    """
    modes = tuple(module.training for module in model.modules()) if isinstance(model, nn.Module) else ()
    facts = (
        (name, tuple(tensor.shape), tensor.dtype, tensor.device, checksum(tensor)) for name, tensor in _tensors(model)
    )
    return modes, tuple(facts)


def operator_key(operator: Any) -> Hashable:
    """What tells an operator from others, and from itself with other settings or for another shape."""
    return operator, tuple(operator.shape), repr(operator.settings)


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(model, nn.Module):
        yield from model.named_parameters(remove_duplicate=False)
        yield from model.named_buffers(remove_duplicate=False)
    elif dataclasses.is_dataclass(model):
        values = ((entry.name, getattr(model, entry.name)) for entry in dataclasses.fields(model))
        yield from ((name, value) for name, value in values if isinstance(value, Tensor))
