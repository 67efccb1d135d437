"""What a solver is, what it is given, and `solve`, the one door to all of them."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.models.capabilities import Invertible, missing
from flowprior.operators.base import Operator
from flowprior.optim.recorder import Observer, Trace
from flowprior.registry import SettingsModel
from flowprior.solvers.asking import keys_of, measurements_of, seed_as_number, weights_of
from flowprior.solvers.memory import Memory
from flowprior.solvers.registry import REGISTRY
from flowprior.solvers.result import Result


@dataclass(frozen=True)
class Context:
    """What a solver may use beside the problem itself.

    Attributes:
        keys: identity of each image, for random starts.
        seed: seed of the experiment.
        observer: called with images at recorded steps.
        progress: called with (steps done, steps in all).
        memory: what was derived from this prior, or it and the operator, by what derived it (`Memory.of`).
        kernel: whether the compiled kernel may run the prior.
        weights: setting -> one value per image, in place of the one value that the settings hold (`Solver.per_row`).
        start: images (N, C, H, W) from which to search, in place of what the settings say (`Solver.takes_start`).
    """

    keys: tuple[str, ...]
    seed: int = 0
    observer: Observer | None = None
    progress: Callable[[int, int], None] | None = None
    memory: dict[Hashable, Any] = field(default_factory=dict)
    kernel: bool = True
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    start: Tensor | None = None

    def remembered(self, key: Hashable, derive: Callable[[], Any]) -> Any:
        """What `derive` gives, asked only once per key."""
        if key not in self.memory:
            self.memory[key] = derive()
        return self.memory[key]


class Solver(ABC):
    """A method for y = A x + noise.

    A solver is one file: this class, its settings with ranges and descriptions, and `run`. It sees no truth.
    """

    name: ClassVar[str]
    #: The protocol of `flowprior.models.capabilities` that its prior must have; None: it asks no prior.
    needs: ClassVar[type | None] = Invertible
    #: Whether it is what methods with a learned prior are compared with.
    baseline: ClassVar[bool] = False
    #: Modules it cannot do without -> why one may be missing, and how it is installed.
    requires: ClassVar[Mapping[str, str]] = {}

    #: Settings that may differ from image to image within one batch: a sweep over them is one batch.
    per_row: ClassVar[tuple[str, ...]] = ()

    #: Whether its search can begin at given images.
    takes_start: ClassVar[bool] = False

    #: Pydantic model of the solver's own settings.
    Settings: ClassVar[type[SettingsModel]] = SettingsModel

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @classmethod
    def skip(cls, operator: Operator) -> str | None:
        """Why it cannot be asked to solve measurements of an operator, with the remedy; None: it can."""
        return None

    def own_values(self, shape: tuple[int, int, int], prior: Any) -> int:
        """Numbers that one row holds beside images, latents and what the prior keeps of them: weights of its own, say.

        Args:
            shape: (C, H, W) of the images.
            prior: as for `run`.
        """
        return 0

    @abstractmethod
    def run(self, operator: Operator, y: Tensor, prior: Any, context: Context) -> Result:
        """Reconstruct a batch of measurements (N, *operator.measurement_shape)."""

    def value_per_image(self, name: str, y: Tensor, context: Context) -> Tensor:
        """A setting of `per_row` for each image of a batch (N,)."""
        given = context.weights.get(name)
        return (y.new_full((len(y),), float(getattr(self.settings, name))) if given is None else given).to(y)


def solve(
    name: str,
    operator: Operator,
    y: Tensor,
    prior: Any = None,
    *,
    keys: Sequence[str] | None = None,
    seed: int = 0,
    observer: Observer | None = None,
    progress: Callable[[int, int], None] | None = None,
    memory: Memory | dict[Hashable, Any] | None = None,
    weights: Mapping[str, Tensor] | None = None,
    start_images: Tensor | None = None,
    **settings: Any,
) -> Result:
    """Reconstruct images from measurements by a registered method.

    Every image is its own problem: its result does not depend on which others share the batch.

    Args:
        name: a registered solver.
        operator: the measurement operator.
        y: measurements (N, *operator.measurement_shape) of images in [0, 1], float32 or float64, where the prior
            lies; they are converted to the type of the prior's weights where it has any, and so are the images. An
            image of whose measurement a value is no number is "diverged"; of an empty batch the result is empty.
        prior: a flow, a `flowprior.models.gaussian.Gaussian`, or None, as the solver needs.
        keys: identity of each image, no two alike, from which random starts follow; default: the position in the batch.
        seed: seed of random starts.
        observer: called with the current images at about 30 recorded steps; its values enter the trace.
        progress: called with (steps done, steps in all).
        memory: an empty dict (or a `Memory`) to pass to several calls, so that what no measurement enters (folded
            weights, the Gaussian of the prior's samples) is derived once for each prior. A prior whose weights have
            changed since is another.
        weights: setting -> its value for each image (N,), of those the solver lists in `per_row`.
        start_images: images (N, C, H, W) in [0, 1] at which the search begins, in place of what the settings say; for
            solvers that take them (`takes_start`).
        **settings: the solver's own settings; see its `Settings`.

    Returns:
        Images in [0, 1], status per image, passes, seconds and trace.

    Raises:
        UnknownNameError: no such solver, naming the nearest.
        FlowpriorError: a setting is misspelt or out of range, shapes do not fit, or the prior is of another kind.
    """
    solver = REGISTRY.get(name)(REGISTRY.settings(name, settings))
    y = measurements_of(y, operator, prior)
    if reason := solver.skip(operator):
        raise FlowpriorError(reason)
    _check_prior(solver, prior, operator)
    identities = keys_of(keys, len(y), repeated=bool(weights))
    per_image = weights_of(weights, solver, len(y))
    kept = Memory.of_caller(memory)
    begun = _start_of(start_images, solver, operator, y)
    memory_of_prior = kept.of(prior)
    context = Context(
        identities, seed_as_number(seed), observer, progress, memory_of_prior, kept.kernel, per_image, begun
    )
    if len(y) == 0:
        return _nothing(operator, y)
    good = torch.isfinite(y).flatten(1).all(1)
    if bool(good.all()):
        return solver.run(operator, y, prior, context)
    # No image depends on its batch: another measurement takes the place of one that is no number.
    rows = good.reshape(-1, *[1] * (y.ndim - 1))
    return _without(solver.run(operator, torch.where(rows, y, torch.zeros_like(y)), prior, context), good)


def _nothing(operator: Operator, y: Tensor) -> Result:
    """The result of no measurements."""
    nowhere = Trace(torch.zeros(1), torch.zeros(1))
    return Result(y.new_zeros(0, *operator.shape), (), torch.zeros(0).bool(), torch.zeros(0), 0.0, nowhere)


def _without(result: Result, good: Tensor) -> Result:
    """A result in which images without a measurement are black and diverged, without passes and certainty."""
    kept = good.cpu()

    def only(values: Tensor, other: float) -> Tensor:
        mask = (good if values.device == good.device else kept).reshape(-1, *[1] * (values.ndim - 1))
        return torch.where(mask, values, torch.full_like(values, other))

    trace = result.trace
    return replace(
        result,
        images=only(result.images, 0.0),
        status=tuple(said if fine else "diverged" for said, fine in zip(result.status, kept.tolist(), strict=True)),
        converged=result.converged & kept,
        passes=only(result.passes, 0.0),
        trace=replace(trace, values={name: only(seen.T, math.nan).T for name, seen in trace.values.items()}),
        std=None if result.std is None else only(result.std, math.nan),
        samples=None if result.samples is None else only(result.samples, math.nan),
        latents=None if result.latents is None else only(result.latents, math.nan),
    )


def _check_prior(solver: Solver, prior: Any, operator: Operator) -> None:
    if solver.needs is None:
        return
    if lacking := missing(prior, solver.needs):
        raise FlowpriorError(
            f"solver '{solver.name}' needs a prior that is {solver.needs.__name__}, got {type(prior).__name__} without "
            f"{', '.join(lacking)}; pass prior= a model that has it (flowprior.models.capabilities says which do)"
        )
    if tuple(prior.shape) != tuple(operator.shape):
        raise FlowpriorError(
            f"the prior is for images {tuple(prior.shape)}, the operator for {tuple(operator.shape)}; build both alike"
        )


def _start_of(start: Tensor | None, solver: Solver, operator: Operator, y: Tensor) -> Tensor | None:
    if start is None:
        return None
    if not solver.takes_start:
        raise FlowpriorError(f"solver '{solver.name}' begins at no given images; leave start_images out")
    if tuple(start.shape) != (len(y), *operator.shape):
        raise FlowpriorError(
            f"start_images have shape {tuple(start.shape)}, and the problem is of {len(y)} images "
            f"{tuple(operator.shape)}; give one for each"
        )
    return start.to(y)


def closed_form_result(images: Tensor, started: float, context: Context) -> Result:
    """A result without iterations: one recorded step, no network passes.

    Args:
        images: the reconstructions, not yet clipped.
        started: `time.perf_counter()` at the start.
        context: for its observer.
    """
    seconds = time.perf_counter() - started
    good = torch.isfinite(images).flatten(1).all(1)
    # An answer that is no image is said to be none, as of a search that diverged at its first step.
    images = torch.where(good[:, None, None, None], images, torch.zeros_like(images)).clamp(0, 1)
    observed = context.observer(images) if context.observer else {}
    trace = Trace(
        torch.zeros(1), torch.tensor([seconds]), {name: value[None].cpu() for name, value in observed.items()}
    )
    status = tuple("ok" if fine else "diverged" for fine in good.tolist())
    return Result(images, status, good.cpu(), torch.zeros(len(images)), seconds, trace)
