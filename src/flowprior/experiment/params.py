"""The frozen models of an experiment: what a `params/*.yaml` may say, what it means, and its defaults.

The settings of a piece (flow, operator, solver) are declared in the piece's own file; here stands where they go, and in
`parts.py` what they go into. Importing this costs no torch, so that the workflow starts at once;
`flowprior.experiment.schema` joins both into one JSON schema.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from flowprior.errors import FlowpriorError
from flowprior.experiment.labels import label, labels_of
from flowprior.experiment.names import check_beginnings, check_methods, check_trained_as
from flowprior.experiment.parts import (
    NO_PRIOR,
    MethodSettings,
    MethodTask,
    Point,
    PriorSettings,
    StudySettings,
    Training,
)
from flowprior.images.settings import SPLITS, DataSettings
from flowprior.operators.task import TaskSettings
from flowprior.registry import SettingsModel


class Experiment(SettingsModel):
    """One experiment: images, priors, tasks and methods. Everything it yields lies in `results/<name>`."""

    name: str = Field(pattern=r"^[A-Za-z0-9_\-]+$", description="folder below results/")
    title: str = Field("", description="heading of the report")
    seed: int = Field(0, ge=0, description="every random number follows from it and from identities")
    bits: Literal[5, 8] = Field(8, description="grey levels per channel of targets, measurements and training: 2^bits")
    data: DataSettings = Field(default_factory=DataSettings)
    test_sets: dict[str, DataSettings] = Field(
        default_factory=dict,
        description="name -> other images, never trained or selected on, that every method solves too; all images of "
        "source folder, of others the test images",
    )
    priors: dict[str, PriorSettings] = Field(
        validation_alias=AliasChoices("models", "priors"),
        description="name -> model and training; written `models:` or, as in older files, `priors:`",
    )
    tasks: dict[str, TaskSettings] = Field(description="name -> operator and noise")
    methods: dict[str, MethodSettings] = Field(description="name -> solver, settings and sweep")
    studies: dict[str, StudySettings] = Field(
        default_factory=dict, description="name -> a question beside the tables, with a figure of its own"
    )
    validation_images: int = Field(32, ge=1, description="images on which settings are selected")
    test_images: int = Field(64, ge=1, description="images on which everything is reported")
    batch: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="rows (images times settings of a job) solved together; auto: as many as memory holds"
    )
    chunk: int = Field(4, ge=1, description="settings per job: fewer jobs, coarser re-runs")
    reference: str | None = Field(
        None, description="published tables to stand beside ours: chavez2021, oberlin2021 or wei2022"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, values: Any) -> Any:
        if isinstance(values, dict) and {"models", "priors"} <= set(values):
            raise ValueError("'models' and 'priors' are two words for one thing: write all of them under 'models'")
        return values

    @field_validator("test_sets", mode="before")
    @classmethod
    def _of_a_folder_all_images(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: {"splits": "test", **data} if isinstance(data, dict) and data.get("source") == "folder" else data
            for name, data in value.items()
        }

    @model_validator(mode="after")
    def _test_sets_are_other_images_of_one_size(self) -> Experiment:
        side = self.data.resolution
        for name, data in self.test_sets.items():
            if name in SPLITS:
                raise ValueError(f"test set '{name}' is named as a split of the experiment's own images: rename it")
            if "resolution" in data.model_fields_set and data.resolution != side:
                raise ValueError(
                    f"test set '{name}' is of {data.resolution} px, and the models of {side}: leave its resolution out"
                )
            self.test_sets[name] = sized = data.model_copy(update={"resolution": side})
            if sized.key == self.data.key:
                raise ValueError(f"test set '{name}' is the experiment's own images: leave it out")
        return self

    @model_validator(mode="after")
    def _names_name_something(self) -> Experiment:
        check_methods(self)
        check_beginnings(self)
        check_trained_as(self)
        return self

    def solver_of(self, method: str) -> str:
        """Registered solver behind a method's name."""
        return self.methods[method].solver or method

    def priors_of(self, method: str) -> tuple[str, ...]:
        """Priors a method runs with: those it names, else all that can what its solver needs, else a fitted one.

        Raises:
            FlowpriorError: no model of the experiment can what the solver needs.
        """
        from flowprior.experiment.pieces import fitted_models, model_facts, solver_facts

        solver = self.solver_of(method)
        needs = solver_facts(solver).needs
        if needs is None:
            return (NO_PRIOR,)
        able = tuple(name for name, prior in self.priors.items() if needs in model_facts(prior.model).gives)
        if named := self.methods[method].priors:
            for name in named:
                if name not in self.priors and name in fitted_models(needs):
                    continue
                if name not in able:
                    model = self.priors[name].model if name in self.priors else "made of the training images"
                    raise FlowpriorError(
                        f"method '{method}' needs a model that is {needs}, and '{name}' ({model}) is none; take it out "
                        "of the method's 'priors'"
                    )
            return tuple(named)
        ready = fitted_models(needs, 3 * self.data.resolution**2)
        found = able or ready[:1]
        if not found:
            raise FlowpriorError(
                f"method '{method}' needs a model that is {needs}, and none of the experiment's is "
                f"({', '.join(self.priors) or 'there are none'}); add one under 'models', or leave the method out"
            )
        return found

    def prior_of_study(self, study: str) -> str:
        """The model that a study asks; `NO_PRIOR` where it asks none.

        Raises:
            FlowpriorError: no model of the experiment, or not the named one, can what the study needs.
        """
        from flowprior.experiment.pieces import model_facts, study_facts

        asked = self.studies[study]
        needs = study_facts(asked.study).needs
        if needs is None:
            return NO_PRIOR
        able = [name for name, prior in self.priors.items() if needs in model_facts(prior.model).gives]
        if asked.prior is not None and asked.prior not in able:
            raise FlowpriorError(
                f"study '{study}' needs a model that is {needs}, and '{asked.prior}' is none; "
                f"name one of: {', '.join(able) or 'there is none'}"
            )
        if not able:
            raise FlowpriorError(f"study '{study}' needs a model that is {needs}; add one under 'models'")
        return asked.prior or able[0]

    @property
    def flows(self) -> tuple[str, ...]:
        """Priors that are flows."""
        return tuple(name for name, prior in self.priors.items() if prior.is_flow)

    def trainings(self) -> tuple[Training, ...]:
        """Every job of training, in the experiment's order; of a model for one task, one for each that it solves."""
        found = []
        for name, prior in self.priors.items():
            tasks: tuple[str | None, ...] = self._solved_by(name) if prior.for_one_task else (None,)
            found += [Training(name, task) for task in tasks]
        return tuple(found)

    def training_of(self, prior: str, task: str) -> Training:
        """The training whose model solves a task."""
        return Training(prior, self.learned_for(task) if self.priors[prior].for_one_task else None)

    def learned_for(self, task: str) -> str:
        """The task whose trained models solve a task: itself, unless it says `trained_as`."""
        return self.tasks[task].trained_as or task

    def _solved_by(self, prior: str) -> tuple[str, ...]:
        methods = (method for method in self.methods if prior in self.priors_of(method))
        used = {self.learned_for(task) for method in methods for task in self.tasks_of(method)}
        return tuple(task for task in self.tasks if task in used)

    def tasks_of(self, method: str) -> tuple[str, ...]:
        """Tasks a method runs on, in the experiment's order."""
        chosen = self.methods[method].tasks
        return tuple(task for task in self.tasks if chosen is None or task in chosen)

    def points(self, method: str, task: str) -> tuple[Point, ...]:
        """Every setting that a method runs with on a task: the sweep's grid, and the paper's own values."""
        plan = self.methods[method]
        special = (plan.tasks or {}).get(task, MethodTask())
        base = {**plan.settings, **special.settings}
        sweep = plan.sweep if special.sweep is None else special.sweep
        if empty := next((name for name, values in sweep.items() if not values), None):
            raise FlowpriorError(
                f"the sweep of method '{method}' has no values for '{empty}'; name one, or leave it out"
            )
        grid = [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]
        for number, values in enumerate(grid):
            if values in grid[:number]:
                raise FlowpriorError(
                    f"the sweep of method '{method}' on task '{task}' holds {label(values, str)} twice; remove one"
                )
        paper = special.paper
        if paper is not None and not any({**base, **values} == {**base, **paper} for values in grid):
            grid.append(paper)
        published = {**base, **paper} if paper is not None else None
        return tuple(
            Point(name, {**base, **values}, {**base, **values} == published)
            for name, values in zip(labels_of(grid), grid, strict=True)
        )

    def chunks(self, method: str, task: str) -> tuple[tuple[Point, ...], ...]:
        """The points of a method on a task, divided into jobs."""
        points = self.points(method, task)
        return tuple(points[i : i + self.chunk] for i in range(0, len(points), self.chunk))

    def place_of(self, method: str, task: str, label: str) -> tuple[int, int] | None:
        """Which job solves a setting, and which of the job's settings it is; None: there is no such setting."""
        labels = [point.label for point in self.points(method, task)]
        return divmod(labels.index(label), self.chunk) if label in labels else None

    @property
    def solved_splits(self) -> tuple[str, ...]:
        """What methods solve: settings are chosen on the first and reported on the others."""
        return ("validation", "test", *self.test_sets)

    def data_of(self, split: str) -> DataSettings:
        """Where the images of a split, or of another test set, come from."""
        return self.test_sets.get(split, self.data)

    def dataset_of(self, split: str) -> str:
        """The data set that a split belongs to, as rows name it."""
        side = self.data.resolution
        return f"{split if split in self.test_sets else self.data.source}-{side}px"

    def measured_images(self, split: str) -> int:
        """How many images of a split, or of another test set, there are measurements of."""
        if split == "validation":
            return self.validation_images
        limit = self.test_sets[split].test if split in self.test_sets else None
        return self.test_images if limit is None else min(limit, self.test_images)

    def images_of(self, method: str, split: str) -> int:
        """How many images of a split, or of another test set, a method solves."""
        measured = self.measured_images(split)
        limit = None if split == "validation" else self.methods[method].images
        return measured if limit is None else min(limit, measured)
