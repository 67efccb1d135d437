"""The JSON schema of an experiment, generated from the pydantic models, and checks of pieces against it.

`pieces.json` beside this file holds the settings of every registered model, operator and solver, so that a
misspelt setting is found before any job starts and without importing torch. `make schema` writes it again; a
test fails when it is out of date.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import jsonschema

from flowprior import images, models, operators, solvers
from flowprior.errors import FlowpriorError, UnknownNameError, unknown_name_message
from flowprior.experiment.pieces import (
    facts_of_model,
    facts_of_operator,
    facts_of_solver,
    facts_of_study,
    index,
    operator_facts,
)
from flowprior.models import flows
from flowprior.studies.registry import REGISTRY as STUDIES

if TYPE_CHECKING:
    from flowprior.experiment.params import Experiment
    from flowprior.registry import Registry

REGISTRIES: dict[str, Registry[Any]] = {
    "model": models.TRAINED,
    "operator": operators.REGISTRY,
    "solver": solvers.REGISTRY,
    "study": STUDIES,
}


def generate_pieces() -> dict[str, dict[str, Any]]:
    """Kind -> name -> JSON schema of the piece's settings. Imports every piece."""
    return {kind: _settings_schemas(registry) for kind, registry in REGISTRIES.items()}


def generate_index() -> dict[str, dict[str, Any]]:
    """What `pieces.json` holds: `generate_pieces`, and under "facts" what pieces say of themselves."""
    facts = {
        "operator": {name: asdict(facts_of_operator(operators.REGISTRY.get(name))) for name in operators.names()},
        "solver": {name: asdict(facts_of_solver(solvers.REGISTRY.get(name))) for name in solvers.names()},
        "model": {name: asdict(facts_of_model(models.REGISTRY.get(name))) for name in models.names()},
        "study": {name: asdict(facts_of_study(STUDIES.get(name))) for name in STUDIES.names()},
    }
    return {**generate_pieces(), "facts": facts}


def _settings_schemas(registry: Registry[Any]) -> dict[str, Any]:
    return {name: registry.get(name).Settings.model_json_schema() for name in registry.names()}


def generate_schema() -> dict[str, Any]:
    """The JSON schema of a `params/*.yaml`, with the settings of every registered piece among its definitions."""
    from flowprior.experiment.params import Experiment

    schema = Experiment.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    definitions = schema["$defs"]
    for kind, pieces in generate_pieces().items():
        for name, piece in pieces.items():
            definitions[f"{kind}_{name}"] = piece
    for model, kind in (("PriorSettings", "model"), ("TaskSettings", "operator"), ("StudySettings", "study")):
        definitions[model]["properties"][kind]["enum"] = list(REGISTRIES[kind].names())
        definitions[model]["allOf"] = [
            {
                "if": {"properties": {kind: {"const": name}}, "required": [kind]},
                "then": {"properties": {"settings": {"$ref": f"#/$defs/{kind}_{name}"}}},
            }
            for name in REGISTRIES[kind].names()
        ]
    _accept_older_words(schema)
    return schema


def _accept_older_words(schema: dict[str, Any]) -> None:
    """`priors:` says what `models:` says, and `flow:` what `model:` says of a flow."""
    prior = schema["$defs"]["PriorSettings"]
    for node, word, older in ((schema, "models", "priors"), (prior, "model", "flow")):
        node["properties"][older] = node["properties"][word]
        node["required"].remove(word)
        node["oneOf"] = [{"required": [word]}, {"required": [older]}]
    prior["properties"]["flow"] = {**prior["properties"]["model"], "enum": list(flows.names())}
    prior["allOf"] += [
        {
            "if": {"properties": {"flow": {"const": name}}, "required": ["flow"]},
            "then": {"properties": {"settings": {"$ref": f"#/$defs/model_{name}"}}},
        }
        for name in flows.names()
    ]


def check_settings(kind: str, name: str, settings: dict[str, Any], context: str) -> None:
    """Check the settings of one piece by its generated schema.

    Raises:
        UnknownNameError: the piece is not registered.
        FlowpriorError: a setting is misspelt or missing, or its value does not fit.
    """
    registry = REGISTRIES[kind]
    if name not in registry.names():
        raise UnknownNameError(kind, name, registry.names())
    schema = index().get(kind, {}).get(name) or registry.get(name).Settings.model_json_schema()
    known = schema.get("properties", {})
    for key, value in settings.items():
        if key not in known:
            raise FlowpriorError(f"{context}: {unknown_name_message('setting', key, known)}")
        try:
            jsonschema.validate(value, {**known[key], "$defs": schema.get("$defs", {})})
        except jsonschema.ValidationError as error:
            raise FlowpriorError(f"{context}: {key}: {error.message}") from None
    for key in schema.get("required", []):
        if key not in settings:
            raise FlowpriorError(f"{context}: {key} is missing; set it: {known[key]['description']}")


def check_pieces(experiment: Experiment) -> None:
    """Check the image source and every model, operator and solver that an experiment names, with all their settings.

    Raises:
        FlowpriorError: for the first that is wrong.
    """
    if experiment.data.source not in images.names():
        raise UnknownNameError("image source", experiment.data.source, images.names())
    for name, prior in experiment.priors.items():
        check_settings("model", prior.model, prior.settings, f"model '{name}'")
    for name, problem in experiment.tasks.items():
        check_settings("operator", problem.operator, problem.settings, f"task '{name}'")
        if problem.as_image and not operator_facts(problem.operator).pictures:
            raise FlowpriorError(
                f"task '{name}': as_image is true, but '{problem.operator}' measures no picture; leave it out"
            )
    for name, study in experiment.studies.items():
        check_settings("study", study.study, study.settings, f"study '{name}'")
        experiment.prior_of_study(name)
    for method in experiment.methods:
        solver = experiment.solver_of(method)
        check_settings("solver", solver, {}, f"method '{method}'")
        for task in experiment.tasks_of(method):
            for point in experiment.points(method, task):
                check_settings("solver", solver, point.settings, f"method '{method}', task '{task}'")
