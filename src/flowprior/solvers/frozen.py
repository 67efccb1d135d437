"""A model that is only asked, not trained, while images are solved."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flowprior.errors import FlowpriorError
from flowprior.models.capabilities import Decodes
from flowprior.models.flows.base import Flow, FlowLike
from flowprior.models.flows.fixed import FixedFlow, GraphedFlow, NotFoldableError, UnrolledFlow
from flowprior.precision import Precision
from flowprior.solvers.base import Context


@contextmanager
def frozen(prior: Flow | Decodes, context: Context, precision: Precision = "float32") -> Iterator[Any]:
    """The flow as the compiled kernel runs it, or, where that can not be, as torch does without weight gradients.

    Autograd then neither stores what weight gradients would need nor computes them; afterwards they are switched on
    as they were.

    The kernel takes the threads that torch had, and torch keeps one: its team, which waits between small operations
    by spinning, would take the kernel's cores (measured: a tenth of the speed on two).

    Args:
        prior: the flow; of a model that only decodes, `Decoded` stands for it.
        context: of the search; its memory keeps what is derived from the flow.
        precision: of the coupling networks where torch runs them; the kernel computes in float32 whatever it is.

    Raises:
        FlowpriorError: bf16 of a flow with a layer that can not be folded.
    """
    if not isinstance(prior, Flow):
        with _without_gradients(prior):
            yield Decoded(prior)
        return
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
    with _without_gradients(prior):
        yield prior


@contextmanager
def _without_gradients(model: object) -> Iterator[None]:
    """Weights take no gradient meanwhile."""
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, wanted in zip(parameters, before, strict=True):
            parameter.requires_grad_(wanted)


class Decoded:
    """A model that decodes, asked as a search over flat latents asks a flow.

    Args:
        model: with latents of any shape.
    """

    def __init__(self, model: Decodes) -> None:
        self._model = model

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Images of flat latents (N, D). There is no log-determinant: NaN, so that no objective can take it for one."""
        images = self._model.decode(z.reshape(-1, *self._model.latent_shape))
        return images, z.new_full((len(z),), float("nan"))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """It has none.

        Raises:
            FlowpriorError: always.
        """
        raise FlowpriorError(
            f"model '{getattr(self._model, 'name', type(self._model).__name__)}' finds no latent of an image; "
            "set start: origin"
        )


def latent_sizes(prior: Decodes) -> list[int]:
    """How many latent values each level of a model has, the finest first; one level where it has no others."""
    return prior.latent_sizes if isinstance(prior, Flow) else [math.prod(prior.latent_shape)]


def fixed_of(prior: Flow, memory: dict[Hashable, Any]) -> FixedFlow | None:
    """The flow as the kernel runs it, written down once per memory; None where that can not be."""
    if "fixed" not in memory:
        try:
            memory["fixed"] = FixedFlow(prior)
        except NotFoldableError:
            memory["fixed"] = None
    fixed: FixedFlow | None = memory["fixed"]
    return fixed


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
