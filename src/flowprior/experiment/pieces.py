"""What the plan of an experiment must know of registered operators, solvers and models, without importing torch.

It stands in the pieces' own classes; `pieces.json` beside this file repeats it (`make schema` writes it, a test fails
when it is out of date). A piece that was registered elsewhere is asked itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from flowprior import models, operators, solvers
from flowprior.models.capabilities import capabilities_of
from flowprior.studies.registry import REGISTRY as STUDIES

PIECES = Path(__file__).with_name("pieces.json")


@dataclass(frozen=True)
class OperatorFacts:
    """What an operator says of itself.

    Attributes:
        pictures: whether its measurements are pictures.
    """

    pictures: bool = True


@dataclass(frozen=True)
class SolverFacts:
    """What a solver says of itself.

    Attributes:
        needs: name of the protocol that its prior must have; None: it asks no prior.
        baseline: whether methods with a learned prior are compared with it.
        requires: module -> why it may be missing and how it is installed.
    """

    needs: str | None = None
    baseline: bool = False
    requires: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFacts:
    """What a model says of itself.

    Attributes:
        gives: names of the protocols that it has.
        fitted: whether it is made of the training images at once, without settings and training.
        most_values: values of an image that it takes, at most; None: any number.
        training: settings of training that are others than those of flows, where a person says nothing.
    """

    gives: list[str] = field(default_factory=list)
    fitted: bool = False
    most_values: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyFacts:
    """What a study says of itself.

    Attributes:
        needs: name of the protocol that its model must have; None: it asks no model.
        reads_rows: whether it reads the rows of all reconstructions.
        reads_tasks: whether it takes operators and noise of the experiment's tasks.
    """

    needs: str | None = None
    reads_rows: bool = False
    reads_tasks: bool = False


@cache
def index() -> dict[str, dict[str, Any]]:
    """The content of `pieces.json`."""
    return json.loads(PIECES.read_text())


def operator_facts(name: str) -> OperatorFacts:
    """Facts of a registered operator."""
    found = index()["facts"]["operator"].get(name)
    return OperatorFacts(**found) if found is not None else facts_of_operator(operators.REGISTRY.get(name))


def solver_facts(name: str) -> SolverFacts:
    """Facts of a registered solver."""
    found = index()["facts"]["solver"].get(name)
    return SolverFacts(**found) if found is not None else facts_of_solver(solvers.REGISTRY.get(name))


def model_facts(name: str) -> ModelFacts:
    """Facts of a registered model."""
    found = index()["facts"]["model"].get(name)
    return ModelFacts(**found) if found is not None else facts_of_model(models.REGISTRY.get(name))


def study_facts(name: str) -> StudyFacts:
    """Facts of a registered study."""
    found = index()["facts"].get("study", {}).get(name)
    return StudyFacts(**found) if found is not None else facts_of_study(STUDIES.get(name))


def facts_of_operator(cls: Any) -> OperatorFacts:
    """Facts as the class states them."""
    return OperatorFacts(cls.pictures)


def facts_of_solver(cls: Any) -> SolverFacts:
    """Facts as the class states them."""
    return SolverFacts(cls.needs.__name__ if cls.needs else None, cls.baseline, dict(cls.requires))


def facts_of_study(cls: Any) -> StudyFacts:
    """Facts as the class states them."""
    return StudyFacts(cls.needs.__name__ if cls.needs else None, cls.reads_rows, cls.reads_tasks)


def facts_of_model(cls: Any) -> ModelFacts:
    """Facts as the class states them."""
    return ModelFacts(
        list(capabilities_of(cls)),
        bool(getattr(cls, "fitted", False)),
        getattr(cls, "most_values", None),
        dict(getattr(cls, "training_defaults", {})),
    )


def fitted_models(needs: str, values: int = 0) -> tuple[str, ...]:
    """Models that need no training, have a capability and take images of so many values, in the registry's order.

    Example:
        >>> fitted_models("LinearEstimate", 3 * 64**2)[0] != fitted_models("LinearEstimate", 3 * 128**2)[0]
        True
    """
    facts = {name: model_facts(name) for name in models.names()}
    able = {name: fact for name, fact in facts.items() if fact.fitted and needs in fact.gives}
    return tuple(name for name, fact in able.items() if fact.most_values is None or values <= fact.most_values)
