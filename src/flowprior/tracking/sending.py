"""One record as one MLflow run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flowprior.provenance.invocation import Invocation
from flowprior.records import Record
from flowprior.records.record import ImageSet

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput
    from mlflow.tracking import MlflowClient

#: Tags by which a run is found again.
KEY, DIGEST = "flowprior.key", "flowprior.digest"
#: What a run stands for, and whether the files still say what it says.
KIND, CURRENT = "flowprior.kind", "flowprior.current"
#: The repository that sent a run to a server that others use too.
PLACE = "flowprior.place"
#: The kind of a run that stands for a call of the workflow.
INVOCATION = "invocation"
#: MLflow takes at most so many metrics at once, and so many characters of a parameter.
METRICS_AT_ONCE, CHARACTERS = 1000, 6000

_T = TypeVar("_T")


def invocation_key(call: Invocation | None) -> str:
    """By what the run of a call of the workflow is found again; all calls that are not known share one."""
    return f"invocation/{call.name if call else 'unknown'}"


class Sender:
    """Makes runs in one MLflow experiment.

    Args:
        client: of the tracking server.
        group: id of the MLflow experiment.
        place: the repository, where the server may have runs of others; else empty.
    """

    def __init__(self, client: MlflowClient, group: str, place: str = "") -> None:
        self._client, self._group = client, group
        self._tags = {PLACE: place} if place else {}

    def begin(self, call: Invocation | None) -> str:
        """The run that stands for a call of the workflow; it ends when everything is published."""
        tags = {**self._tags, KIND: INVOCATION, KEY: invocation_key(call), "mlflow.source.name": "Snakefile"}
        name, started = "calls that are not known", int(1000 * time.time())
        if call is not None:
            name, started = f"run of {call.started[:16].replace('T', ' ')}", _milliseconds(call.started)
        run = self._client.create_run(self._group, run_name=name, tags=tags, start_time=started)
        if call is not None:
            self._client.log_param(run.info.run_id, "command", call.command[:CHARACTERS])
        return str(run.info.run_id)

    def send(self, record: Record, parent: str) -> str:
        """A record as a run beneath another; its digest comes last, so that half a run is never taken for a whole."""
        from mlflow.entities import Metric, Param, RunTag

        client, now = self._client, int(1000 * time.time())
        began = int(1000 * record.started.timestamp()) if record.started else now
        tags = {**self._tags, **record.tags, **record.marks, KEY: record.key, KIND: record.kind}
        tags["mlflow.parentRunId"] = parent
        if record.tables:
            entries = [{"path": name, "type": "table"} for name in record.tables]
            # By this MLflow's pages know that a file is a table, as `mlflow.log_table` leaves it.
            tags["mlflow.loggedArtifacts"] = json.dumps(entries)
        run_id = str(client.create_run(self._group, began, tags, record.name).info.run_id)
        metrics = [Metric(name, value, now, 0) for name, value in record.metrics.items()]
        metrics += [Metric(name, value, now, step) for name, curve in record.curves.items() for step, value in curve]
        params = [Param(name, value[:CHARACTERS]) for name, value in record.settings.items()]
        for part in _parts(metrics, METRICS_AT_ONCE - 100):
            client.log_batch(run_id, metrics=part, params=params)
            params = []
        if record.inputs:
            client.log_inputs(run_id, [_dataset(images) for images in record.inputs])
        with tempfile.TemporaryDirectory() as folder:
            for name, write in record.artifacts.items():
                write(Path(folder) / name)
            for name, table in record.tables.items():
                table().to_json(Path(folder) / name, orient="split", index=False)
            client.log_artifacts(run_id, folder)
        client.log_batch(run_id, tags=[RunTag(DIGEST, record.digest), RunTag(CURRENT, "yes")])
        client.set_terminated(run_id, end_time=began + int(1000 * record.seconds) if record.started else None)
        return run_id


def _dataset(images: ImageSet) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    described = Dataset(
        name=images.name,
        digest=images.digest,
        source_type="local",
        source=json.dumps({"uri": images.path}),
        profile=json.dumps({"num_rows": images.size}),
    )
    return DatasetInput(described, [InputTag("mlflow.data.context", images.context)])


def _milliseconds(moment: str) -> int:
    from datetime import datetime

    return int(1000 * datetime.fromisoformat(moment).timestamp())


def _parts(values: Sequence[_T], most: int) -> Iterator[Sequence[_T]]:
    """Pieces of a list; one empty piece of an empty list."""
    for start in range(0, max(1, len(values)), most):
        yield values[start : start + most]
