import pytest
import torch
from workflow_project import SMOKE, copy_of_the_project, snakemake

torch.set_num_threads(1)


@pytest.fixture
def no_kernel(monkeypatch):
    """As on a machine without a C compiler: torch runs all flows."""
    monkeypatch.setattr("flowprior.flows.fixed.flow.kernel", lambda: None)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A project in which the tiny experiment has run: for all tests to look at, and to copy before they change it."""
    project = copy_of_the_project(tmp_path_factory.mktemp("tiny_run"))
    (project / "said.txt").write_text(snakemake(project, *SMOKE))
    return project
