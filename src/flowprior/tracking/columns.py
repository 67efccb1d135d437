"""Which columns and runs MLflow's page of an experiment shows when it is opened by `make ui`'s address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowprior.evaluation.registry import CHOSEN_BY, METRICS
from flowprior.tracking.sending import CURRENT

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

#: Name of the view in an address: `...runs?viewStateShareKey=<VIEW>`.
VIEW = "flowprior"
#: MLflow's pages find a shared view in a tag of the experiment.
_TAG = f"mlflow.sharedViewState.{VIEW}"
_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"
_NOTE_TAG = "mlflow.note.content"
_COLUMNS = (
    *("params.`task`", "params.`method`", "params.`setting`", "tags.`selected_by`"),
    *(f"metrics.`{one.name}`" for one in METRICS if one.interval and not one.optional),
    "metrics.`seconds_per_image`",
)
_NOTE = f"""One run for each training, one for each task, method and setting over all its test images, and `aggregate`
with the tables and the report. They lie beneath the call of the workflow that made them.

Runs that the files still stand for: ``tags.`{CURRENT}` = 'yes'``. Chosen on validation images:
``tags.selected_by LIKE '%validation%'``. Metrics are means over the test images, with 95 % intervals."""


def show_columns(client: MlflowClient, group: str, known: Mapping[str, str]) -> None:
    """Give an MLflow experiment the view, and a description to those who open it.

    Args:
        client: of the tracking server.
        group: id of the MLflow experiment.
        known: tags that it has.
    """
    for name, value in ((_TAG, json.dumps(_view())), (_KIND_TAG, _KIND), (_NOTE_TAG, _NOTE)):
        if known.get(name) != value:
            client.set_experiment_tag(group, name, value)


def _view() -> dict[str, Any]:
    return {
        "searchFilter": f"tags.`{CURRENT}` = 'yes'",
        "orderByKey": f"metrics.`{CHOSEN_BY}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": list(_COLUMNS),
    }
