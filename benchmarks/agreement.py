"""Whether a device computes what the flows themselves compute in float64: `python -m benchmarks.agreement`.

Ends with status 1 where it does not: what is wrong need not be timed.
"""

from __future__ import annotations

import argparse
import copy
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.accelerator import device_named
from benchmarks.cases import FIXED
from benchmarks.problems import random_flow
from flowprior import operators, solvers
from flowprior.device import use_tensor_cores
from flowprior.errors import one_line_errors
from flowprior.evaluation.metrics import psnr
from flowprior.models import flows
from flowprior.models.flows.base import Evaluator, Flow
from flowprior.models.flows.evaluators import FoldedFlow, GraphFlow
from flowprior.models.flows.evaluators.by_graphs import OFTEN
from flowprior.solvers.memory import Memory

_FLOWS: dict[str, dict[str, Any]] = {
    "haar_glow": {"levels": 4, "steps": 6, "hidden": 48},
    "glow": {"levels": 3, "steps": 4, "hidden": 64},
    "chavez": {"steps": 2, "hidden": 64},
}
#: How far weights are moved at random: far enough that every layer changes the image.
_SCALE = 0.03
_SIZE, _NOISE = 32, 0.05
_SEARCHES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("map", {**FIXED, "start": "zero_latent", "noise_std": _NOISE, "learning_rate": 0.01, "steps": 60}),
    ("chavez", {"alpha": 0.05, "learning_rate": 0.05, "steps": 60}),
)


@dataclass(frozen=True)
class Bounds:
    """How far arithmetic may take a flow from float64.

    Attributes:
        log_prob: log p(x), in nats per value of the image.
        log_det: the log-determinants of both directions against each other, likewise.
        round_trip: an image through both directions, its worst value in [0, 1].
        gradient: of log p(x) by the image, its error's norm as a part of its own.
        psnr: mean PSNR of a search's images, in dB.
    """

    log_prob: float
    log_det: float
    round_trip: float
    gradient: float
    psnr: float


#: Those of bf16 leave a GPU a few times what a CPU gives; TF32 rounds eight times finer, and has about a third.
BOUNDS = {
    "float64": Bounds(1e-12, 1e-12, 1e-11, 1e-10, 0.001),
    "float32": Bounds(5e-6, 5e-6, 1e-4, 1e-4, 0.02),
    "tf32": Bounds(1e-4, 1e-5, 1e-2, 4e-2, 0.02),
    "bf16": Bounds(3e-4, 4e-5, 3e-2, 1e-1, 0.02),
}


@dataclass(frozen=True)
class Check:
    """One comparison: what was measured and what it may be at most."""

    name: str
    measured: float
    bound: float

    @property
    def right(self) -> bool:
        """Whether it holds; what is not finite does not."""
        return self.measured <= self.bound

    def __str__(self) -> str:
        return f"{'ok   ' if self.right else 'WRONG'}  {self.name}: {self.measured:.2g}, at most {self.bound:.2g}"


def checks(device: torch.device, count: int) -> Iterator[Check]:
    """Every registered flow and two searches on a device, `count` images each, against float64 on the CPU."""
    for name in flows.names():
        flow = random_flow(name, _SIZE, _SCALE, **_FLOWS.get(name, {})).double()
        for arithmetic in _arithmetics(device):
            yield from _flow_checks(flow, arithmetic, device, count)
    flow = random_flow("haar_glow", _SIZE, _SCALE, levels=3, steps=2, hidden=32)
    for solver, settings in _SEARCHES:
        yield from _search_checks(flow, solver, settings, device, count)


def _arithmetics(device: torch.device) -> tuple[str, ...]:
    return ("float64", "float32", "tf32", "bf16") if device.type == "cuda" else ("float64", "float32", "bf16")


def _flow_checks(flow: Flow, arithmetic: str, device: torch.device, count: int) -> Iterator[Check]:
    """A flow in float64 on the CPU against its folded steps on the device."""
    with torch.no_grad():
        z = torch.randn(count, flow.dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        x = flow.inverse(0.5 * z)[0]
    log_prob, gradient = _density(flow, x)
    own = torch.float64 if arithmetic == "float64" else torch.float32
    moved = copy.deepcopy(flow).to(device, own)
    unrolled = FoldedFlow(moved, torch.bfloat16 if arithmetic == "bf16" else own)
    fixed = GraphFlow(unrolled) if device.type == "cuda" else unrolled
    given = x.to(device, own)
    with _rounding(arithmetic == "tf32"), warnings.catch_warnings():
        # A recording that fails is only a warning elsewhere; here it would leave graphs untested.
        warnings.simplefilter("error", RuntimeWarning)
        for _ in range(OFTEN + 1 if device.type == "cuda" else 1):
            found, found_gradient = _density(fixed, given)
        with torch.no_grad():
            latent, there = fixed.forward(given)
            again, back = fixed.inverse(latent)
    measured = {
        "log_prob": (found.cpu() - log_prob).abs().max() / flow.dimensions,
        "log_det": (there + back).abs().max() / flow.dimensions,
        "round_trip": (again - given).abs().max(),
        "gradient": (found_gradient.cpu() - gradient).norm() / gradient.norm(),
    }
    for what, value in measured.items():
        label = f"{flow.name}, {arithmetic} on {device.type}, {what.replace('_', ' ')}"
        yield Check(label, float(value), getattr(BOUNDS[arithmetic], what))


@contextmanager
def _rounding(to_tf32: bool) -> Iterator[None]:
    """Convolutions of a GPU round their inputs to TF32, or not."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = to_tf32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _density(flow: Evaluator, x: Tensor) -> tuple[Tensor, Tensor]:
    variable = x.clone().requires_grad_(True)
    log_prob = flow.log_prob(variable)
    return log_prob.detach(), torch.autograd.grad(log_prob.sum(), variable)[0]


def _search_checks(
    flow: Flow, solver: str, settings: dict[str, Any], device: torch.device, count: int
) -> Iterator[Check]:
    """A search for images that the flow itself makes: PSNR on the device against that of float64 on the CPU."""
    operator = operators.build("box_blur", flow.shape, size=3)
    truth = flow.sample(count, 0.7, torch.Generator().manual_seed(3)).clamp(0, 1)
    y = operator.measure(truth, _NOISE, torch.Generator().manual_seed(4))

    def mean_psnr(prior: Flow, precision: str) -> float:
        reference = next(prior.parameters())
        # It is torch's arithmetic that is compared.
        memory = Memory(kernel=False)
        found = solvers.solve(solver, operator, y.to(reference), prior, memory=memory, precision=precision, **settings)
        return float(psnr(found.images.cpu().double(), truth.double(), 1.0).mean())

    exact = mean_psnr(copy.deepcopy(flow).double(), "float32")
    use_tensor_cores(device)
    moved = copy.deepcopy(flow).to(device)
    for arithmetic in ("tf32" if device.type == "cuda" else "float32", "bf16"):
        apart = abs(mean_psnr(moved, "bf16" if arithmetic == "bf16" else "float32") - exact)
        yield Check(f"{solver}, {arithmetic} on {device.type}, mean PSNR", apart, BOUNDS[arithmetic].psnr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Say of every check whether it holds; status 1 unless all do."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda; default: cpu")
    parser.add_argument("--images", type=int, default=32, help="images of each comparison")
    given = parser.parse_args(arguments)
    wrong = 0
    for check in checks(device_named(given.device), given.images):
        print(check, flush=True)
        wrong += not check.right
    if wrong:
        sys.exit(f"benchmarks: wrong on {given.device}: {wrong} comparison{'s' * (wrong > 1)}")


if __name__ == "__main__":
    with one_line_errors("benchmarks"):
        main()
