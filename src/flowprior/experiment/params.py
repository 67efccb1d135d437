"""The frozen models of an experiment: what a `params/*.yaml` may say, what it means, and its defaults.

The settings of a piece (flow, operator, solver) are declared in the piece's own file; here stands where they go.
Importing this costs no torch, so that the workflow starts at once; `flowprior.experiment.schema` joins both into one
JSON schema.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import (
    AliasChoices,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from flowprior.errors import FlowpriorError, UnknownNameError
from flowprior.models import FOR_ONE_TASK, flows
from flowprior.registry import SettingsModel, validated

SPLITS = ("train", "validation", "test")
Scalar = float | int | str | bool
#: Of the networks inside a flow; what they change, and log-determinants, are float32.
Precision = Literal["float32", "bf16"]


class DataSettings(SettingsModel):
    """Where images come from and how they are prepared."""

    source: str = Field("photos", description="photos, celeba or folder")
    path: str | None = Field(None, description="where the raw images lie; default: data/<source>")
    url: str | None = Field(None, description="where to download a missing archive from (celeba)")
    checksum: str | None = Field(
        None,
        description="expected checksum of the archive, as 'sha256:...' or 'md5:...'; a mismatch is an error",
    )
    resolution: int = Field(32, ge=4, le=1024, description="side of the prepared images in pixels")
    train: int | None = Field(None, ge=1, description="how many training images; null: all there are")
    validation: int | None = Field(None, ge=1, description="how many validation images are prepared; null: all")
    test: int | None = Field(None, ge=1, description="how many test images are prepared; null: all")

    @property
    def raw(self) -> str:
        """Folder of the raw images."""
        return self.path or f"data/{self.source}"

    @property
    def key(self) -> str:
        """Name of the prepared data set: readable, and different whenever the settings differ."""
        facts = self.model_dump(exclude={"url"})
        return f"{self.source}-{self.resolution}px-{fingerprint(facts)}"


class TrainingSettings(SettingsModel):
    """How a model is trained; its loss is its own."""

    steps: int = Field(3000, ge=1, description="optimiser steps")
    batch: int = Field(32, ge=1, description="images per step")
    learning_rate: float = Field(2e-3, gt=0, description="peak rate of Adam")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's first decay")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's second decay")
    warmup: int = Field(100, ge=0, description="steps of linear warm-up")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    clip_value: float | None = Field(None, gt=0, description="clip each gradient entry to this magnitude")
    clip_norm: float | None = Field(100.0, gt=0, description="clip the gradient's total norm")
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights; 0: none")
    noise_std: float = Field(
        0.0, ge=0, description="Gaussian noise added to training images, on values in [0, 1]: a smoother density"
    )
    flips: bool = Field(True, description="mirror half of the images left to right")
    precision: Precision = Field("float32", description="of the convolutions; log-dets stay float32")
    compile: bool = Field(
        False, description="torch.compile the loss where torch's layers run it (on a GPU); minutes at the start"
    )
    validate_every: int = Field(500, ge=1, description="steps between validations and resume points")
    patience: int | None = Field(None, ge=1, description="stop after so many validations without gain; null: never")


class PriorSettings(SettingsModel):
    """A model and how it is trained."""

    model: str = Field(
        validation_alias=AliasChoices("model", "flow"), description="registered model; of a flow, `flow:` says the same"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="the model's own settings")
    training: TrainingSettings = Field(default_factory=TrainingSettings)

    @model_serializer(mode="wrap")
    def _flows_as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A flow's word stays, so that flows which are trained already are not trained again."""
        dumped = dump(self)
        return {"flow" if self.is_flow else "model": dumped.pop("model"), **dumped}

    @property
    def is_flow(self) -> bool:
        """Whether the model is a flow."""
        return self.model in flows.names()

    @property
    def for_one_task(self) -> bool:
        """Whether the model is trained once for each task."""
        return self.model in FOR_ONE_TASK


class Training(NamedTuple):
    """One job of training.

    Attributes:
        prior: name of the model in the experiment.
        task: what it is trained for; None: for images as they are.
    """

    prior: str
    task: str | None = None

    @property
    def label(self) -> str:
        """How people are told of it."""
        return self.prior if self.task is None else f"{self.prior} for {self.task}"


class TaskSettings(SettingsModel):
    """One inverse problem: an operator and its noise."""

    operator: str = Field(description="registered operator")
    settings: dict[str, Any] = Field(default_factory=dict, description="the operator's own settings")
    noise_std: float = Field(0.0, ge=0, description="standard deviation of the Gaussian noise, on values in [0, 1]")
    as_image: bool = Field(
        False, description="the measurement is an image like the others: clipped to [0, 1], quantised below 8 bits"
    )


class MethodTask(SettingsModel):
    """What differs for one method on one task."""

    settings: dict[str, Any] = Field(default_factory=dict, description="replace or extend the method's settings")
    sweep: dict[str, list[Scalar]] | None = Field(None, description="replaces the method's sweep on this task")
    paper: dict[str, Scalar] | None = Field(None, description="the fixed values the paper used, reported beside ours")


class MethodSettings(SettingsModel):
    """A solver, its settings, and the values to choose from on validation images."""

    solver: str | None = Field(None, description="registered solver; default: the method's name")
    settings: dict[str, Any] = Field(default_factory=dict, description="the solver's own settings")
    sweep: dict[str, list[Scalar]] = Field(default_factory=dict, description="setting -> values; all combinations run")
    tasks: dict[str, MethodTask] | None = Field(None, description="tasks it runs on, with what differs; null: all")
    priors: list[str] | None = Field(None, description="priors it runs with; null: all flows of the experiment")
    images: int | None = Field(None, ge=1, description="only the first so many test images (slow protocols); null: all")

    @field_validator("tasks", mode="before")
    @classmethod
    def _empty_task_means_no_difference(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {name: {} for name in value}
        if isinstance(value, dict):
            return {name: {} if entry is None else entry for name, entry in value.items()}
        return value


class Point(NamedTuple):
    """One setting of a method on a task."""

    label: str
    settings: dict[str, Any]
    paper: bool


class Experiment(SettingsModel):
    """One experiment: images, priors, tasks and methods. Everything it yields lies in `results/<name>`."""

    name: str = Field(pattern=r"^[A-Za-z0-9_\-]+$", description="folder below results/")
    title: str = Field("", description="heading of the report")
    seed: int = Field(0, ge=0, description="every random number follows from it and from identities")
    bits: Literal[5, 8] = Field(8, description="grey levels per channel of targets, measurements and training: 2^bits")
    data: DataSettings = Field(default_factory=DataSettings)
    priors: dict[str, PriorSettings] = Field(
        validation_alias=AliasChoices("models", "priors"),
        description="name -> model and training; written `models:` or, as in older files, `priors:`",
    )
    tasks: dict[str, TaskSettings] = Field(description="name -> operator and noise")
    methods: dict[str, MethodSettings] = Field(description="name -> solver, settings and sweep")
    validation_images: int = Field(32, ge=1, description="images on which settings are selected")
    test_images: int = Field(64, ge=1, description="images on which everything is reported")
    batch: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="rows (images times settings of a job) solved together; auto: as many as memory holds"
    )
    chunk: int = Field(4, ge=1, description="settings per job: fewer jobs, coarser re-runs")
    reference: str | None = Field(None, description="published table to stand beside ours: chavez2021")

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, values: Any) -> Any:
        if isinstance(values, dict) and {"models", "priors"} <= set(values):
            raise ValueError("'models' and 'priors' are two words for one thing: write all of them under 'models'")
        return values

    @model_validator(mode="after")
    def _references_exist(self) -> Experiment:
        for name, method in self.methods.items():
            for kind, used, known in (
                ("task", method.tasks or {}, self.tasks),
                ("prior", method.priors or [], self.priors),
            ):
                for entry in used:
                    if entry not in known:
                        raise UnknownNameError(f"{kind} of method '{name}':", entry, known)
        return self

    def solver_of(self, method: str) -> str:
        """Registered solver behind a method's name."""
        return self.methods[method].solver or method

    def priors_of(self, method: str) -> tuple[str, ...]:
        """Priors a method runs with: flows of the experiment, 'gaussian', or 'none'."""
        from flowprior.solvers import OTHER_PRIORS

        other = OTHER_PRIORS.get(self.solver_of(method))
        return (other,) if other else tuple(self.methods[method].priors or self.flows)

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
        return Training(prior, task if self.priors[prior].for_one_task else None)

    def _solved_by(self, prior: str) -> tuple[str, ...]:
        used = {task for method in self.methods if prior in self.priors_of(method) for task in self.tasks_of(method)}
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
        grid = [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]
        paper = special.paper
        if paper is not None and not any({**base, **values} == {**base, **paper} for values in grid):
            grid.append(paper)
        published = {**base, **paper} if paper is not None else None
        return tuple(
            Point(label, {**base, **values}, {**base, **values} == published)
            for label, values in zip(labels_of(grid), grid, strict=True)
        )

    def chunks(self, method: str, task: str) -> tuple[tuple[Point, ...], ...]:
        """The points of a method on a task, divided into jobs."""
        points = self.points(method, task)
        return tuple(points[i : i + self.chunk] for i in range(0, len(points), self.chunk))

    def images_of(self, method: str, split: str) -> int:
        """How many images of a split a method solves."""
        if split == "validation":
            return self.validation_images
        limit = self.methods[method].images
        return self.test_images if limit is None else min(limit, self.test_images)


def labels_of(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Readable names of settings that stand side by side: four digits, or all where four do not tell them apart.

    Example:
        >>> labels_of([{"alpha": 0.05, "steps": 200}, {"alpha": 25 / 255}])
        ['alpha=0.05,steps=200', 'alpha=0.09804']
        >>> labels_of([{"alpha": 0.10001}, {"alpha": 0.10002}])
        ['alpha=0.10001', 'alpha=0.10002']
        >>> labels_of([{}])
        ['default']
    """
    short = [_label(values, _four_digits) for values in settings]
    return short if len(set(short)) == len(short) else [_label(values, str) for values in settings]


def _label(values: dict[str, Any], written: Callable[[Any], str]) -> str:
    return ",".join(f"{key}={written(value)}" for key, value in sorted(values.items())) or "default"


def _four_digits(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def fingerprint(facts: Any) -> str:
    """Eight hexadecimal digits that change whenever the facts do."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def experiment_from(config: dict[str, Any]) -> Experiment:
    """A checked experiment from a parsed YAML file or Snakemake's config.

    Raises:
        FlowpriorError: one line that names the value and the remedy.
    """
    from flowprior.experiment.schema import check_pieces

    experiment = validated(Experiment, config, f"experiment '{config.get('name', '?')}'")
    check_pieces(experiment)
    return experiment


def load_experiment(path: str | Path) -> Experiment:
    """Read and check `params/<name>.yaml`.

    Raises:
        FlowpriorError: the file is missing, is not YAML, or says something unknown.
    """
    path = Path(path)
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise FlowpriorError(f"no experiment file at {path}; see params/ for those that exist") from None
    except yaml.YAMLError as error:
        raise FlowpriorError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(config, dict):
        raise FlowpriorError(f"{path} must hold settings by name, got {type(config).__name__}")
    return experiment_from(config)
