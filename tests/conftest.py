import shutil

import pytest
import torch
from workflow_project import SMOKE, copy_of_the_project, snakemake

torch.set_num_threads(1)


@pytest.fixture
def no_kernel(monkeypatch):
    """As on a machine without a C compiler: torch runs all flows."""
    monkeypatch.setattr("flowprior.models.flows.evaluators.by_kernel.kernel", lambda: None)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A project in which the tiny experiment has run: for all tests to look at, and to copy before they change it."""
    project = copy_of_the_project(tmp_path_factory.mktemp("tiny_run"))
    (project / "said.txt").write_text(snakemake(project, *SMOKE))
    return project


@pytest.fixture
def no_server(monkeypatch):
    """Records go to the repository's own database."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """MLflow takes seconds to make one."""
    from tracked import client_of, record_of

    from flowprior.tracking import publish

    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        runs = publish([record_of(group="before")], place)
        client_of(place).delete_run(runs.runs["k"])
    return place / "mlflow.db"


@pytest.fixture
def place(empty_database, tmp_path):
    """A repository with an empty database."""
    shutil.copy(empty_database, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """All records of a tree, sent to a fresh database: root, experiment, what publishing did."""
    from published_tree import make_tree

    from flowprior.records import records_of
    from flowprior.tracking import publish

    root = tmp_path_factory.mktemp("tree")
    experiment = make_tree(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return root, experiment, publish(records_of(experiment, root), root)
