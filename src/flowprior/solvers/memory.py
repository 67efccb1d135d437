"""What calls of `solve` with the same prior share, and how a prior is known to be the same."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from flowprior.models.weights import content_of

#: Where `Memory.of_caller` keeps itself in a caller's dict.
_PLACE = "flowprior.solvers.memory"


@dataclass
class Memory:
    """What was derived from priors: folded weights, Gaussians of samples.

    A prior is the same if it is the same object and its content is: every weight, bit by bit, where and in which type
    it lies, and whether it is in training mode. One that was trained on is another, and what was derived from it as it
    was before is dropped. A prior without tensors is known by the object alone.

    Args:
        kernel: whether the compiled kernel may run models; without it torch does.
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
        self._found.append((prior, content, {}))
        return self._found[-1][2]

    @classmethod
    def of_caller(cls, memory: Memory | dict[Hashable, Any] | None) -> Memory:
        """The memory that a caller of `solve` means: its own, one that lives in its dict, or a fresh one."""
        if isinstance(memory, Memory):
            return memory
        found = {} if memory is None else memory
        kept: Memory = found.setdefault(_PLACE, cls())
        return kept


def operator_key(operator: Any) -> Hashable:
    """What tells an operator from others, and from itself with other settings or for another shape."""
    return operator, tuple(operator.shape), repr(operator.settings)
