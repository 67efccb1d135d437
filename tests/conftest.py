import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def no_kernel(monkeypatch):
    """As on a machine without a C compiler: torch runs all flows."""
    monkeypatch.setattr("flowprior.flows.fixed.flow.kernel", lambda: None)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
