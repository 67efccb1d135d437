"""Images times iterations per second of a search: objective, gradient by the iterate, and Adam's step."""

from __future__ import annotations

import copy
import functools
import gc
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.accelerator import device_named, peak_gigabytes
from benchmarks.cases import SUITES, TALL, Case, suite_for
from benchmarks.flops import Count, gflops, per_image
from benchmarks.model import Options, Part, Row, Target, say
from benchmarks.plain import Descent, Objective, descend, image_objective, latent_objective, latent_start
from benchmarks.timing import Contender, Timing, interleaved, ratio
from flowprior import flows, operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.flows.base import Flow, FlowLike
from flowprior.flows.fixed import UnrolledFlow
from flowprior.flows.fixed.graphed import OFTEN
from flowprior.operators.base import Operator
from flowprior.params import Precision
from flowprior.solvers.base import Result

UNIT = "image-iterations/s"
#: The paper's rate; a search at this rate stays finite on any flow for as long as it is timed.
_RATE, _ALPHA, _NOISE_STD = 0.005, 0.02, 0.02
#: How far the contenders' first losses may lie apart, as a part of the loss.
_AGREEMENT = 1e-3
#: The same of a loss by networks in half precision.
_HALF_AGREEMENT = 2e-2


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

    def objective(self, flow: FlowLike) -> Objective:
        """The objective on a flow that torch runs."""
        if self.case.objective == "latent":
            return latent_objective(flow, self.operator, self.y, _ALPHA)
        return image_objective(flow, self.operator, self.y, _NOISE_STD)

    def descend(self, flow: FlowLike, steps: int) -> Descent:
        """The plain search."""
        return descend(self.objective(flow), self.start, steps, _RATE)

    def solve(self, steps: int, precision: str = "float32") -> Result:
        """The same search by `flowprior.solvers.solve`."""
        settings: dict[str, Any] = {"steps": steps, "learning_rate": _RATE, "schedule": "constant"}
        settings["precision"] = precision
        if self.case.objective == "latent":
            name, settings = "chavez", {**settings, "alpha": _ALPHA}
        else:
            name, settings = "map", {**settings, "noise_std": _NOISE_STD, "start": "pseudo_inverse"}
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


def check_first_losses(problem: Problem) -> None:
    """Raise unless the plain program and flowprior begin with the same losses.

    Raises:
        FlowpriorError: they differ, so their speeds can not be compared.
    """
    plain = problem.descend(copy.deepcopy(problem.flow).requires_grad_(False), 1).first_loss
    bounds: dict[Precision, float] = {"float32": _AGREEMENT}
    if any("bf16" in contender for contender in problem.case.contenders):
        bounds["bf16"] = _HALF_AGREEMENT
    for precision, bound in bounds.items():
        found = problem.solve(1, precision).trace.values["loss"][0].to(plain)
        apart = float(((found - plain).abs() / plain.abs().clamp_min(1e-6)).max())
        if not apart <= bound:
            raise FlowpriorError(
                f"{problem.case.name}: first losses of plain torch and flowprior ({precision}) are {apart:.2g} of the "
                f"loss apart, more than {bound:g}; one of them is wrong, so nothing was timed"
            )


def contenders_of(problem: Problem) -> dict[str, Contender]:
    """Who solves a problem: plain (weights trainable), frozen (weights not), unrolled (folded steps), flowprior."""
    batch = problem.case.batch
    trainable = copy.deepcopy(problem.flow).requires_grad_(True)
    fixed = copy.deepcopy(problem.flow).requires_grad_(False)
    unrolled = UnrolledFlow(problem.flow, torch.float32)
    every = {
        "plain": Contender(lambda steps: problem.descend(trainable, steps).seconds, batch),
        "frozen": Contender(lambda steps: problem.descend(fixed, steps).seconds, batch),
        "unrolled": Contender(lambda steps: problem.descend(unrolled, steps).seconds, batch),
        "flowprior": Contender(lambda steps: problem.solve(steps).seconds, batch),
        "flowprior, bf16": Contender(lambda steps: problem.solve(steps, "bf16").seconds, batch),
    }
    return {name: every[name] for name in problem.case.contenders}


def run(options: Options, ceiling: float) -> Part:
    """Time every case.

    Args:
        options: of the run.
        ceiling: GFLOP/s of a matrix product on all threads.
    """
    device = device_named(options.device)
    suite = SUITES[options.suite] if options.suite else suite_for(device.type == "cuda", options.quick)
    seconds, rounds = suite.turns
    rows: list[Row] = []
    for case in suite.flows:
        rows += _rows([problem_of(case, device)], seconds, rounds, ceiling)
    # All sizes, and all batches, in one set of turns: the figures are ratios between them.
    sizes = [problem_of(case, device) for case in suite.sizes]
    rows += _rows(sizes, seconds, rounds, ceiling, over=min((case.size for case in suite.sizes), default=None))
    rows += _rows([problem_of(case, device) for case in suite.batches], seconds, rounds, ceiling)
    return Part("Search: objective, gradient and Adam's step", tuple(rows), _NOTES)


_NOTES = (
    "plain: torch's layers, weights left trainable, `loss.backward()`, `torch.optim.Adam`, all threads; "
    "frozen: the same without weight gradients; unrolled: the same on folded steps; flowprior: `solvers.solve`, by its "
    "own clock.",
    "GFLOP/s: multiply-adds of the convolutions with values of the map, forward and gradient by the input, "
    "two operations each; for plain the weight gradients are not counted as work. Percent: of torch's matrix product "
    "(on a GPU in TF32, for bf16 too).",
)


def _rows(problems: list[Problem], seconds: float, rounds: int, ceiling: float, over: int | None = None) -> list[Row]:
    entries: dict[str, Contender] = {}
    for problem in problems:
        say(f"  {problem.case.name}")
        check_first_losses(problem)
        entries |= {f"{problem.case.name}/{name}": entry for name, entry in contenders_of(problem).items()}
    timings = interleaved(entries, seconds, rounds)
    rows = []
    for problem in problems:
        own = {name: timings[f"{problem.case.name}/{name}"] for name in problem.case.contenders}
        rows += [_row(problem, name, own, ceiling) for name in own]
        rows += _memory_rows(problem)
    if over is not None:
        rows += _scaling_rows(problems, timings, over)
    return rows


def _row(problem: Problem, name: str, timings: dict[str, Timing], ceiling: float) -> Row:
    case, timing = problem.case, timings[name]
    speed = gflops(problem.count, timing.median)
    facts = {
        **{
            "group": case.group,
            "label": f"{case.shape}, {case.objective}",
            "size": case.size,
            "batch": case.batch,
            "steps": timing.steps,
        },
        **{"multiply_adds": problem.count.useful, "multiply_adds_padded": problem.count.padded},
        **{"gflops": round(speed, 2), "share_of_matmul": round(speed / ceiling, 3)},
    }
    return Row(
        case.name,
        name,
        timing.median,
        UNIT,
        timing.spread,
        ratio(timing, timings["plain"], "plain") if name != "plain" else None,
        Target("at least", case.at_least) if case.at_least and name == "flowprior" else None,
        f"{speed:.1f} GFLOP/s, {speed / ceiling:.0%}",
        facts,
    )


def _memory_rows(problem: Problem) -> list[Row]:
    """On a GPU: the most memory that a search takes, its recorded pass included."""
    device = problem.start.device
    if device.type != "cuda":
        return []
    rows = []
    for name, precision in (("flowprior", "float32"), ("flowprior, bf16", "bf16")):
        problem.memory.clear()
        # A recorded pass goes only when garbage is collected.
        gc.collect()
        torch.cuda.empty_cache()
        peak = peak_gigabytes(device, functools.partial(problem.solve, 2 * OFTEN, precision))
        rows.append(Row(f"{problem.case.name}, peak memory", name, peak, "GB", facts={"group": "memory"}))
    return rows


def _scaling_rows(problems: list[Problem], timings: dict[str, Timing], over: int) -> list[Row]:
    """Cost per image at each size over that at the smallest."""
    by_size = {problem.case.size: problem.case for problem in problems}
    rows = []
    for size, case in by_size.items():
        for name in case.contenders if size != over else ():
            small, large = (timings[f"{by_size[side].name}/{name}"] for side in (over, size))
            target = Target("at most", 4.5) if (size, name) == (64, "flowprior") else None
            found = ratio(small, large, f"{over} px")
            label = f"haar_glow (steps {TALL['steps']}), cost per image, {size} px over {over} px"
            facts = {"group": "scaling", "size": size}
            rows.append(Row(label, name, None, "", None, found, target, f"{size**2 / over**2:g} x the pixels", facts))
    return rows
