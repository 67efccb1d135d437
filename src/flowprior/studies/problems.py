"""A task of the experiment on a study's images, and the methods that a study runs on it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import AfterValidator
from torch import Tensor

from flowprior import operators
from flowprior.errors import FlowpriorError
from flowprior.operators.base import Operator
from flowprior.randomness import keyed_rows
from flowprior.solvers.base import Result, solve
from flowprior.solvers.registry import REGISTRY
from flowprior.studies.base import Subject


class Problem(NamedTuple):
    """What is to be solved.

    Attributes:
        operator: the measurement operator.
        y: measurements (N, ...), with noise keyed by each image.
        truth: images (N, C, H, W).
        names: of the images.
    """

    operator: Operator
    y: Tensor
    truth: Tensor
    names: tuple[str, ...]

    def repeated(self, names: Sequence[str]) -> Problem:
        """Each image several times, one after the other, under names of their own."""
        copies = len(names) // len(self.names)
        y, truth = (batch.repeat_interleave(copies, dim=0) for batch in (self.y, self.truth))
        return Problem(self.operator, y, truth, tuple(names))


def problem_of(subject: Subject, task: str, images: int) -> Problem:
    """A task on the first images of a subject.

    Raises:
        FlowpriorError: the experiment has no such task.
    """
    assert subject.images is not None
    if task not in subject.tasks:
        known = ", ".join(subject.tasks) or "none"
        raise FlowpriorError(f"there is no task '{task}'; the experiment's are: {known}")
    asked = subject.tasks[task]
    truth, names = subject.images[:images], subject.names[:images]
    _, channels, height, width = truth.shape
    operator = operators.build(asked.operator, (channels, height, width), **asked.settings)
    noise = drawn(subject, names, operator.measurement_shape, "noise")
    y = operator.measure(truth, asked.noise_of(noise[0].numel()), noise=noise.to(truth))
    return Problem(operator, y, truth, names)


def solutions(
    subject: Subject, problem: Problem, methods: Mapping[str, Mapping[str, Any]], **given: Any
) -> Iterator[tuple[str, Result]]:
    """What each of a study's methods makes of a problem, with the subject's model.

    Args:
        subject: model and seed.
        problem: what is solved; its names are the identities of the images.
        methods: as `Methods`.
        **given: settings of all of them, in place of their own.
    """
    memory: dict[Hashable, Any] = {}
    for method, settings in methods.items():
        name, own = solver_of(method, settings)
        told = {**own, **given}
        found = solve(
            name,
            problem.operator,
            problem.y,
            subject.model,
            keys=problem.names,
            seed=subject.seed,
            memory=memory,
            **told,
        )
        yield method, found


def between_levels(images: Tensor, keys: Sequence[tuple[object, ...]]) -> Tensor:
    """8-bit pictures (N, C, H, W) as a continuous density knows them: spread over their 256 levels, (v + U) / 256.

    Args:
        images: in [0, 1].
        keys: what each image's uniform numbers follow from.
    """
    within = keyed_rows(torch.rand, tuple(images.shape[1:]), list(keys)).to(images)
    return ((images * 255).round() + within) / 256


def drawn(subject: Subject, names: tuple[str, ...], shape: tuple[int, ...], purpose: str) -> Tensor:
    """Standard normal numbers of each image (N, *shape)."""
    return keyed_rows(torch.randn, shape, [(subject.seed, name, purpose) for name in names])


def solver_of(method: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The registered solver of a method as a study names it, and its settings; `solver` where the name is another.

    Example:
        >>> solver_of("near", {"solver": "map", "steps": 5})
        ('map', {'steps': 5})
    """
    own = dict(settings)
    return str(own.pop("solver", method)), own


def _checked(methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Whether each names a solver and settings that it has: a misspelt one is found before any job starts."""
    for method, settings in methods.items():
        name, own = solver_of(method, settings)
        REGISTRY.settings(name, own)
    return methods


#: Method -> settings of the solver of that name, or of that under `solver`.
Methods = Annotated[dict[str, dict[str, Any]], AfterValidator(_checked)]
