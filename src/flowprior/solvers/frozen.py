"""A flow that is only asked, not trained, while images are solved."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from flowprior.errors import FlowpriorError
from flowprior.experiment.params import Precision
from flowprior.models.flows.base import Flow, FlowLike
from flowprior.models.flows.fixed import FixedFlow, GraphedFlow, NotFoldableError, UnrolledFlow
from flowprior.solvers.base import Context


@contextmanager
def frozen(prior: Flow, context: Context, precision: Precision = "float32") -> Iterator[FlowLike]:
    """The flow as the compiled kernel runs it, or, where that can not be, as torch does without weight gradients.

    Autograd then neither stores what weight gradients would need nor computes them; afterwards they are switched on
    as they were.

    The kernel takes the threads that torch had, and torch keeps one: its team, which waits between small operations
    by spinning, would take the kernel's cores (measured: a tenth of the speed on two).

    Args:
        prior: the flow.
        context: of the search; its memory keeps what is derived from the flow.
        precision: of the coupling networks where torch runs them; the kernel computes in float32 whatever it is.

    Raises:
        FlowpriorError: bf16 of a flow with a layer that can not be folded.
    """
    fixed = fixed_of(prior, context.memory)
    if fixed is not None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            # One for all searches, with the memory that its passes use again.
            yield context.remembered(("fixed", threads), lambda: fixed.with_threads(threads))
        finally:
            torch.set_num_threads(threads)
        return
    by_torch = asked(prior, context.memory, precision)
    if by_torch is not prior:
        # Its weights are copies without gradients.
        yield by_torch
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


def without_kernel() -> dict[Hashable, Any]:
    """A memory for `solve` with which torch runs a flow, whether there is a kernel or not."""
    return {"fixed": None}


def asked(prior: Flow, memory: dict[Hashable, Any], precision: Precision) -> FlowLike:
    """The flow as torch runs it fastest on the flow's device, derived once per memory and precision.

    That is its folded steps, on a GPU launched as graphs; the flow itself where it can not be folded.

    Raises:
        FlowpriorError: bf16 of a flow that can not be folded.
    """
    key = ("asked", precision)
    if key not in memory:
        memory[key] = _asked(prior, precision)
    found: FlowLike = memory[key]
    return found


def _asked(prior: Flow, precision: Precision) -> FlowLike:
    reference = next(prior.parameters(), None)
    if reference is None:
        return prior
    try:
        unrolled = UnrolledFlow(prior, torch.bfloat16 if precision == "bf16" else reference.dtype)
    except NotFoldableError as error:
        if precision == "bf16":
            raise FlowpriorError(
                f"flow '{prior.name}' can not be solved with in bf16: no step stands for its layer {error}; "
                "set precision: float32"
            ) from None
        return prior
    return GraphedFlow(unrolled) if reference.is_cuda else unrolled
