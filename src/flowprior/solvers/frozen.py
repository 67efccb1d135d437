"""A flow that is only asked, not trained, while images are solved."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from flowprior.flows.base import Flow
from flowprior.flows.fixed import FixedFlow, NotFoldableError
from flowprior.solvers.base import Context


@contextmanager
def frozen(prior: Flow, context: Context) -> Iterator[Flow | FixedFlow]:
    """The flow as the compiled kernel runs it, or, where that can not be, itself without weight gradients.

    Autograd then neither stores what weight gradients would need nor computes them; afterwards they are switched on
    as they were.

    The kernel takes the threads that torch had, and torch keeps one: its team, which waits between small operations
    by spinning, would take the kernel's cores (measured: a tenth of the speed on two).
    """
    fixed = fixed_of(prior, context.memory)
    if fixed is not None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield fixed.with_threads(threads)
        finally:
            torch.set_num_threads(threads)
        return
    before = [parameter.requires_grad for parameter in prior.parameters()]
    prior.requires_grad_(False)
    try:
        yield prior
    finally:
        for parameter, wanted in zip(prior.parameters(), before, strict=True):
            parameter.requires_grad_(wanted)


def fixed_of(prior: Flow, memory: dict[Hashable, Any]) -> FixedFlow | None:
    """The flow as the kernel runs it, written down once per memory; None where that can not be."""
    if "fixed" not in memory:
        try:
            memory["fixed"] = FixedFlow(prior)
        except NotFoldableError:
            memory["fixed"] = None
    fixed: FixedFlow | None = memory["fixed"]
    return fixed
