"""A model that is only asked, not trained: the fastest way to compute it here, chosen in this one place.

    with evaluator(flow) as f:
        z, log_det = f.forward(x)

The compiled kernel runs a flow on the CPU in float32; where that can not be, torch runs its folded steps, on a GPU
launched as graphs; a flow with a layer that nobody can fold is asked itself. All give the flow's own numbers.
One with `memory: reversible` is run by torch: the kernel, and a recorded graph, keep something of every step.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flowprior.errors import FlowpriorError
from flowprior.models.capabilities import Decodes, Model
from flowprior.models.flows.base import Evaluator, Flow
from flowprior.models.flows.evaluators import FoldedFlow, GraphFlow, KernelFlow, NotFoldableError
from flowprior.models.weights import content_of
from flowprior.precision import Precision

#: Where a model keeps what was derived from its weights.
_PLACE = "_derived_evaluators"


@contextmanager
def evaluator(
    model: Model,
    threads: int | None = None,
    precision: Precision = "float32",
    kernel: bool = True,
    gradients: bool = True,
) -> Iterator[Any]:
    """A model as it is computed fastest while its weights stand still.

    What is derived from weights is kept by the model, and forgotten when they change. Autograd neither stores what
    weight gradients would need nor computes them; afterwards they are switched on as they were.

    The kernel takes the threads, and torch keeps one meanwhile: its team, which waits between small operations by
    spinning, would take the kernel's cores (measured: a tenth of the speed on two).

    Args:
        model: a flow; of a model that only decodes, `Decoded` stands for it; any other is asked itself.
        threads: of the kernel; None: those that torch has.
        precision: of the coupling networks where torch runs them; the kernel computes in float32 whatever it is.
        kernel: whether the kernel may run it.
        gradients: whether any will be asked; if not, the kernel keeps nothing, and runs a reversible flow too.

    Raises:
        FlowpriorError: bf16 of a flow with a layer that can not be folded.
    """
    if not isinstance(model, Flow):
        with _without_gradients(model):
            yield Decoded(model) if isinstance(model, Decodes) else model
        return
    derived = _derived(model)
    if kernel and (by_kernel := _by_kernel(model, derived, gradients)) is not None:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            # One for all, with the memory that its passes use again.
            key = ("threads", threads or before)
            if key not in derived:
                derived[key] = by_kernel.with_threads(threads or before)
            yield derived[key]
        finally:
            torch.set_num_threads(before)
        return
    found = by_torch(model, precision)
    if found is not model:
        # Its weights are copies without gradients.
        yield found
        return
    with _without_gradients(model):
        yield model


def runs_by_kernel(flow: Flow) -> bool:
    """Whether the kernel computes a flow here."""
    return _by_kernel(flow, _derived(flow)) is not None


def by_torch(flow: Flow, precision: Precision) -> Evaluator:
    """A flow as torch runs it fastest on the flow's device: its folded steps, or the flow itself.

    Raises:
        FlowpriorError: bf16 of a flow that can not be folded.
    """
    derived, key = _derived(flow), ("torch", precision)
    if key not in derived:
        derived[key] = _by_torch(flow, precision)
    # The flow itself is not kept: it would hold itself.
    found: Evaluator | None = derived[key]
    return flow if found is None else found


def _by_torch(flow: Flow, precision: Precision) -> Evaluator | None:
    reference = next(flow.parameters(), None)
    if reference is None:
        return None
    try:
        folded = FoldedFlow(flow, torch.bfloat16 if precision == "bf16" else reference.dtype)
    except NotFoldableError as error:
        if precision == "bf16":
            raise FlowpriorError(
                f"flow '{flow.name}' can not be solved with in bf16: no step stands for its layer {error}; "
                "set precision: float32"
            ) from None
        return None
    return GraphFlow(folded) if reference.is_cuda and not flow.reversible else folded


def _by_kernel(flow: Flow, derived: dict[Hashable, Any], gradients: bool = True) -> KernelFlow | None:
    """The flow as the kernel runs it; None where that can not be, which is asked again each time."""
    if flow.reversible and gradients:
        return None
    if "kernel" not in derived:
        try:
            derived["kernel"] = KernelFlow(flow)
        except NotFoldableError:
            return None
    found: KernelFlow = derived["kernel"]
    return found


class _Derived:
    """What was derived from a model's weights as they are; copies of the model begin with nothing."""

    def __init__(self) -> None:
        self.content: Hashable = None
        self.found: dict[Hashable, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _Derived:
        return _Derived()

    def __reduce__(self) -> tuple[type[_Derived], tuple[()]]:
        return _Derived, ()


def _derived(model: Flow) -> dict[Hashable, Any]:
    kept: _Derived = model.__dict__.setdefault(_PLACE, _Derived())
    content = content_of(model)
    if kept.content != content:
        kept.content, kept.found = content, {}
    return kept.found


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
