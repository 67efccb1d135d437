"""A training step whose loss torch compiles: the same gradients."""

import shutil
import sysconfig
from pathlib import Path

import pytest
import torch

from flowprior.models import flows
from flowprior.models.flows.learning import ByTorch
from flowprior.training.settings import TrainingSettings

needs_inductor = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++"))
    or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="inductor needs a C++ compiler and Python's headers",
)


def step_of(compiled, images):
    torch.manual_seed(7)
    flow = flows.build("haar_glow", (3, 8, 8), levels=1, steps=1, hidden=4)
    likelihood = ByTorch(flow, TrainingSettings(compile=compiled))
    return likelihood.gradients(images.chunk(2), 1 / len(images), lambda function, items: [*map(function, items)])


@needs_inductor
def test_a_compiled_loss_has_the_same_gradients():
    images = torch.rand(8, 3, 8, 8)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    loss, gradients = step_of(True, images)
    # Compiled it was, and as one graph.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1
    wanted_loss, wanted = step_of(False, images)
    torch.testing.assert_close(loss, wanted_loss)
    for found, exact in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))
