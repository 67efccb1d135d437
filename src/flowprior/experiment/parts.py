"""What the parts of an experiment's file may say: a model, a method, a study, and what they become."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import (
    AliasChoices,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from flowprior.models.flows.registry import REGISTRY as FLOWS
from flowprior.models.registry import TRAINED
from flowprior.registry import SettingsModel
from flowprior.training.settings import TrainingSettings

#: Stands for the prior of a method that asks none.
NO_PRIOR = "none"
Scalar = float | int | str | bool


class PriorSettings(SettingsModel):
    """A model and how it is trained."""

    model: str = Field(
        validation_alias=AliasChoices("model", "flow"), description="registered model; of a flow, `flow:` says the same"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="the model's own settings")
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    begin: str | None = Field(
        None, description="another model of the experiment, with whose weights this one's training begins"
    )

    @model_validator(mode="before")
    @classmethod
    def _trained_as_its_kind_is(cls, values: Any) -> Any:
        """What a person leaves out is as the model's class has it."""
        from flowprior.experiment.pieces import model_facts

        if not isinstance(values, dict) or not isinstance(given := values.get("training", {}), dict):
            return values
        name = values.get("model", values.get("flow"))
        defaults = model_facts(name).training if name in TRAINED.names() else {}
        return {**values, "training": {**defaults, **given}} if defaults else values

    @model_serializer(mode="wrap")
    def _flows_as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A flow's word stays, and no word that says nothing, so that what is trained already is not trained again."""
        dumped = dump(self)
        if self.begin is None:
            del dumped["begin"]
        return {"flow" if self.is_flow else "model": dumped.pop("model"), **dumped}

    @property
    def is_flow(self) -> bool:
        """Whether the model is a flow."""
        return self.model in FLOWS.names()

    @property
    def for_one_task(self) -> bool:
        """Whether the model is trained once for each task."""
        from flowprior.experiment.pieces import model_facts

        return "Solves" in model_facts(self.model).gives


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


class MethodTask(SettingsModel):
    """What differs for one method on one task."""

    settings: dict[str, Any] = Field(default_factory=dict, description="replace or extend the method's settings")
    sweep: dict[str, list[Scalar]] | None = Field(None, description="replaces the method's sweep on this task")
    paper: dict[str, Scalar] | None = Field(None, description="the fixed values the paper used, reported beside ours")


def _names_will_do(schema: dict[str, Any]) -> None:
    """A list of tasks' names, and a task about which nothing is said, are understood too."""
    for one in schema["anyOf"]:
        if "additionalProperties" in one:
            one["additionalProperties"] = {"anyOf": [one["additionalProperties"], {"type": "null"}]}
    schema["anyOf"].append({"type": "array", "items": {"type": "string"}})


class MethodSettings(SettingsModel):
    """A solver, its settings, and the values to choose from on validation images."""

    solver: str | None = Field(None, description="registered solver; default: the method's name")
    settings: dict[str, Any] = Field(default_factory=dict, description="the solver's own settings")
    sweep: dict[str, list[Scalar]] = Field(default_factory=dict, description="setting -> values; all combinations run")
    tasks: dict[str, MethodTask] | None = Field(
        None,
        description="tasks it runs on, with what differs, or their names alone; null: all",
        json_schema_extra=_names_will_do,
    )
    priors: list[str] | None = Field(None, description="priors it runs with; null: all that can what it needs")
    images: int | None = Field(None, ge=1, description="only the first so many test images (slow protocols); null: all")
    baseline: bool | None = Field(
        None,
        description="whether methods with a learned flow are compared with this one; null: as its solver says. An "
        "unfolded network has no flow, its solver can not know",
    )

    @field_validator("tasks", mode="before")
    @classmethod
    def _empty_task_means_no_difference(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {name: {} for name in value}
        if isinstance(value, dict):
            return {name: {} if entry is None else entry for name, entry in value.items()}
        return value


class StudySettings(SettingsModel):
    """A question to the experiment's models or rows, answered by a table and a figure."""

    study: str = Field(description="registered study")
    settings: dict[str, Any] = Field(default_factory=dict, description="the study's own settings")
    prior: str | None = Field(None, description="model that it asks; null: the first that can what it needs")


class Point(NamedTuple):
    """One setting of a method on a task."""

    label: str
    settings: dict[str, Any]
    paper: bool
