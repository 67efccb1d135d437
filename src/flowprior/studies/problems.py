"""A task of the experiment on a study's images, and the methods that a study runs on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import AfterValidator
from torch import Tensor

from flowprior import operators
from flowprior.errors import FlowpriorError
from flowprior.operators.base import Operator
from flowprior.randomness import keyed_rows
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
