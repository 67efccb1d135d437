"""Whether the names by which parts of an experiment's file speak of others name something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowprior.errors import UnknownNameError
from flowprior.models.registry import FITTED

if TYPE_CHECKING:
    from flowprior.experiment.params import Experiment


def check_methods(experiment: Experiment) -> None:
    """Tasks and models of methods.

    Raises:
        UnknownNameError: there is no such task or model.
    """
    for name, method in experiment.methods.items():
        for kind, used, known in (
            ("task", method.tasks or {}, experiment.tasks),
            ("prior", method.priors or [], {**experiment.priors, **dict.fromkeys(FITTED.names())}),
        ):
            for entry in used:
                if entry not in known:
                    raise UnknownNameError(f"{kind} of method '{name}':", entry, known)


def check_beginnings(experiment: Experiment) -> None:
    """With which model the training of another begins.

    Raises:
        UnknownNameError: there is no such model.
        ValueError: it begins with itself, over others or not, or is trained for one task.
    """
    priors = experiment.priors
    for name, prior in priors.items():
        seen, begin = [name], prior.begin
        while begin is not None:
            if begin not in priors:
                raise UnknownNameError(f"begin of model '{seen[-1]}':", begin, priors)
            if begin in seen:
                raise ValueError(f"model '{name}' begins with itself ({' -> '.join([*seen, begin])})")
            if priors[begin].for_one_task:
                raise ValueError(f"model '{seen[-1]}' can not begin with '{begin}', which is trained for one task")
            seen.append(begin)
            begin = priors[begin].begin


def check_trained_as(experiment: Experiment) -> None:
    """Whose models solve a task.

    Raises:
        UnknownNameError: there is no such task.
        ValueError: it is the task itself, or one that has its models from a third.
    """
    for name, task in experiment.tasks.items():
        if (other := task.trained_as) is None:
            continue
        if other not in experiment.tasks:
            raise UnknownNameError(f"trained_as of task '{name}': task", other, experiment.tasks)
        if other == name:
            raise ValueError(f"task '{name}' is trained_as itself: leave trained_as out")
        if further := experiment.tasks[other].trained_as:
            raise ValueError(
                f"task '{name}' is trained_as '{other}', whose models are those of '{further}': name '{further}'"
            )
