"""A case made concrete: what is searched, by whom, and whether all find the same."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import FIXED, Case
from benchmarks.flops import Count, per_image
from benchmarks.plain import Descent, Objective, descend, image_objective, latent_objective, latent_start
from flowprior import operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.models import flows
from flowprior.models.flows.base import Evaluator, Flow
from flowprior.models.flows.evaluators import FoldedFlow
from flowprior.models.flows.evaluators.by_graphs import OFTEN
from flowprior.operators.base import Operator
from flowprior.solvers.base import Result

#: The paper's rate; a search at this rate stays finite on any flow for as long as it is timed.
_RATE, _ALPHA, _NOISE_STD = 0.005, 0.02, 0.02
#: How far losses may lie apart, as a part of the loss, and what a search gained, as a part of that: in float32 and
#: with networks in half precision.
_AGREEMENT = {"float32": (1e-3, 0.02), "bf16": (2e-2, 0.2)}


@dataclass(frozen=True)
class Problem:
    """A case made concrete: the same weights, measurements and first iterates for every contender."""

    case: Case
    flow: Flow
    operator: Operator
    y: Tensor
    start: Tensor
    count: Count
    memory: dict[Hashable, Any] = field(default_factory=dict)

    def objective(self, flow: Evaluator) -> Objective:
        """The objective on a flow that torch runs."""
        if self.case.objective == "latent":
            return latent_objective(flow, self.operator, self.y, _ALPHA)
        return image_objective(flow, self.operator, self.y, _NOISE_STD)

    def descend(self, flow: Evaluator, steps: int) -> Descent:
        """The plain search."""
        return descend(self.objective(flow), self.start, steps, _RATE)

    def solve(self, steps: int, precision: str = "float32") -> Result:
        """The same search by `flowprior.solvers.solve`."""
        settings: dict[str, Any] = {"steps": steps, "learning_rate": _RATE, "schedule": "constant", "tolerance": 0.0}
        settings["precision"] = precision
        if self.case.objective == "latent":
            name, settings = "chavez", {**settings, "alpha": _ALPHA}
        else:
            name, settings = "map", {**settings, **FIXED, "noise_std": _NOISE_STD, "start": "pseudo_inverse"}
        result = solvers.solve(name, self.operator, self.y, self.flow, memory=self.memory, **settings)
        if "diverged" in result.status:
            raise FlowpriorError(f"{self.case.name}: the search diverged, so its speed means nothing")
        return result


def random_flow(name: str, size: int, scale: float = 0.01, **settings: Any) -> Flow:
    """A flow whose every weight was moved at random: a fresh one has zeros where work would be."""
    source = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = flows.build(name, (3, size, size), **settings)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=source))
    return flow


def problem_of(case: Case, device: torch.device | None = None) -> Problem:
    """Weights, measurements of images that the flow itself makes, and first iterates, on a device; default: the CPU."""
    flow = random_flow(case.flow, case.size, **case.settings)
    count = per_image(flow.log_prob, flow.shape)
    flow = flow.to(device)
    operator = operators.build("box_blur", flow.shape, size=3)
    with torch.no_grad():
        z = torch.randn(case.batch, flow.dimensions, generator=torch.Generator().manual_seed(2)).to(device)
        y = operator.A(flow.inverse(0.5 * z)[0])
        start = operator.A_dagger(y).clone()
    if case.objective == "latent":
        start = latent_start(flow.dimensions, [str(i) for i in range(case.batch)]).to(device)
    return Problem(case, flow, operator, y, start, count)


def check_agreement(problem: Problem) -> None:
    """Raise unless the plain program and all others have the same losses at first and after a few steps.

    Raises:
        FlowpriorError: they differ, so their speeds can not be compared.
    """
    # On a GPU flowprior's later steps are recorded ones.
    steps = OFTEN + 2 if problem.start.is_cuda else 3
    fixed = copy.deepcopy(problem.flow).requires_grad_(False)
    plain = _ends(problem, problem.descend(fixed, steps))
    found = {"flowprior": _found(problem.solve(steps)).to(plain)}
    if "unrolled" in problem.case.contenders:
        found["unrolled"] = _ends(problem, problem.descend(FoldedFlow(problem.flow, torch.float32), steps))
    if any("bf16" in contender for contender in problem.case.contenders):
        found["flowprior, bf16"] = _found(problem.solve(steps, "bf16")).to(plain)
    for name, ends in found.items():
        loss, gain = _AGREEMENT["bf16" if "bf16" in name else "float32"]
        apart = float(((ends - plain).abs() / plain.abs().clamp_min(1e-6)).max())
        # The gain is what the gradient was good for; of all rows together, since one row's may be near nothing.
        gains = [float((pair[1] - pair[0]).sum()) for pair in (ends, plain)]
        if not (apart <= loss and abs(gains[0] - gains[1]) <= gain * abs(gains[1])):
            raise FlowpriorError(
                f"{problem.case.name}: losses of plain torch and {name} are up to {apart:.2g} of the loss apart "
                f"(at most {loss:g}), and change by {gains[1]:.4g} and {gains[0]:.4g} in {steps} steps; one of them is "
                "wrong, so nothing was timed"
            )


def _ends(problem: Problem, descent: Descent) -> Tensor:
    """Losses of a plain search before the first step and after the last (2, N)."""
    with torch.no_grad():
        return torch.stack([descent.first_loss, problem.objective(problem.flow)(descent.last)])


def _found(result: Result) -> Tensor:
    return result.trace.values["loss"][[0, -1]]
