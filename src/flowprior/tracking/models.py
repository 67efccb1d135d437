"""Trained flows in MLflow's model registry, and back: versions, and the alias of the best."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flowprior.errors import FlowpriorError
from flowprior.models import flows
from flowprior.models.files import CONFIG, WEIGHTS
from flowprior.records import Record
from flowprior.tracking.server import TrackingError, addressed, read

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

    from flowprior.models.flows.base import Flow

#: The version with the fewest validation bits per dimension.
BEST = "best"
_CHECKPOINT, _BITS_PER_DIM = "checkpoint", "bits_per_dim"


class Registered(NamedTuple):
    """What registering a flow did: the version it made, or why there is none; neither if it was there already."""

    made: str = ""
    remark: str = ""


def register(client: MlflowClient, uri: str, run_id: str, record: Record) -> Registered:
    """Make a trained flow a version of its registered model, unless these weights are one already.

    Flows of the same prepared images and grey levels are versions of one model: only their bits per dimension can be
    compared.
    """
    if not record.inputs or _BITS_PER_DIM not in record.metrics:
        return Registered(
            remark=f"{record.name} is no registered model: its images or its bits per dimension are unknown"
        )
    from mlflow.exceptions import MlflowException

    name = model_name(record)
    try:
        return Registered(_registered(client, uri, name, run_id, record))
    except MlflowException as error:  # a server without a registry, say, which has all runs by now
        return Registered(remark=f"{record.name} is not registered as {name}: {str(error).splitlines()[0]}")


def _registered(client: MlflowClient, uri: str, name: str, run_id: str, record: Record) -> str:
    made = ""
    if not any(version.tags.get(_CHECKPOINT) == record.tags[_CHECKPOINT] for version in _versions(client, name)):
        made = f"{name} version {_make_version(client, uri, name, run_id, record)}"
    # Also where it was there already: the publication that made it may have been interrupted before this.
    best = min(_versions(client, name), key=lambda version: float(version.tags.get(_BITS_PER_DIM, "inf")))
    if str(best.version) != str(client.get_registered_model(name).aliases.get(BEST)):
        client.set_registered_model_alias(name, BEST, best.version)
    return made


def _make_version(client: MlflowClient, uri: str, name: str, run_id: str, record: Record) -> str:
    if not _versions(client, name):
        _make_model(client, name, record)
    tags = {
        _CHECKPOINT: record.tags[_CHECKPOINT],
        _BITS_PER_DIM: repr(record.metrics[_BITS_PER_DIM]),
        "experiment": record.key.partition("/")[0],
        "prior": record.settings["prior"],
    }
    with addressed(uri):
        model = _log(client, run_id, record)
        identity = model.removeprefix("models:/")
        return str(client.create_model_version(name, model, run_id, tags, model_id=identity).version)


def model_name(record: Record) -> str:
    """The registered model that a training makes a version of."""
    key = Path(record.inputs[0].path).parent.name
    return f"flow-{key}-{record.settings['bits']}bit"


def load_flow(uri: str, root: Path | None = None) -> Flow:
    """A registered flow, in evaluation mode; see `checkpoint_at`."""
    return flows.load(checkpoint_at(uri, root))


def checkpoint_at(uri: str, root: Path | None = None) -> Path:
    """The checkpoint folder of a registered flow, fetched if it lies elsewhere.

    Args:
        uri: such as "models:/flow-photos-32px-1a2b3c4d-8bit@best".
        root: the repository whose database is asked; None: the current folder.

    Raises:
        FlowpriorError: there is no such model, or it holds no flow of flowprior.
    """
    try:
        with read(root or Path.cwd()) as address, addressed(address):
            import mlflow

            folder = Path(mlflow.artifacts.download_artifacts(uri))
    except TrackingError as error:
        raise FlowpriorError(f"no flow at {uri}: {error.__cause__ or error}".splitlines()[0]) from None
    found = next((path.parent for path in sorted(folder.rglob(WEIGHTS))), None)
    if found is None:
        raise FlowpriorError(f"{uri} holds no {WEIGHTS}; it was not made by flowprior")
    return found


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    return list(client.search_model_versions(f"name='{name}'"))


def _make_model(client: MlflowClient, name: str, record: Record) -> None:
    from mlflow.exceptions import MlflowException

    about = (
        f"Flows trained on {record.inputs[0].name} ({record.settings['bits']} bits). `@{BEST}` has the fewest "
        "validation bits per dimension. Load it by `flowprior.tracking.load_flow`, which builds the flow itself, or by "
        "`mlflow.pytorch.load_model`, which gives (latents, log-determinants) of images."
    )
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _log(client: MlflowClient, run_id: str, record: Record) -> str:
    """The flow as a model of its run; the address of that model.

    It is stored as a traced graph, which loads without unpickling anything and without this package; the checkpoint
    lies beside it.
    """
    import mlflow
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    assert record.checkpoint is not None
    flow = flows.load(record.checkpoint)
    single = np.dtype("float32")
    signature = ModelSignature(
        Schema([TensorSpec(single, (-1, *flow.shape), "images")]),
        Schema([TensorSpec(single, (-1, flow.dimensions), "latents"), TensorSpec(single, (-1,), "log_det")]),
    )
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    ended = client.get_run(run_id).info.end_time
    try:
        with warnings.catch_warnings(), mlflow.start_run(run_id=run_id):
            warnings.filterwarnings("ignore", "No complete tensor found", UserWarning)
            logged = mlflow.pytorch.log_model(
                flow,
                name="flow",
                signature=signature,
                # Two images: of one the graph would keep the number.
                input_example=torch.zeros(2, *flow.shape),
                serialization_format="pt2",
                pip_requirements=[f"{package}=={_version(package)}" for package in ("torch", "numpy", "mlflow")],
                extra_files=[str(record.checkpoint / name) for name in (WEIGHTS, CONFIG)],
                metadata=json.loads((record.checkpoint / CONFIG).read_text()),
            )
    finally:
        # The run was opened again for it.
        client.set_terminated(run_id, end_time=ended)
    return str(logged.model_uri)


def _version(package: str) -> str:
    # Without what tells builds apart ("+cpu"): that is no version elsewhere.
    return importlib.metadata.version(package).partition("+")[0]
