"""Images times iterations per second of a search: objective, gradient by the iterate, and Adam's step."""

from __future__ import annotations

import copy
import functools
import gc
from collections.abc import Mapping, Sequence

import torch

from benchmarks.accelerator import device_named, peak_gigabytes
from benchmarks.cases import SUITES, TALL, Suite, suite_for
from benchmarks.flops import gflops
from benchmarks.model import Options, Part, Row, Target, say
from benchmarks.problems import Problem, check_agreement, problem_of
from benchmarks.timing import Contender, Timing, interleaved, ratio
from flowprior.models.flows.evaluators import FoldedFlow
from flowprior.models.flows.evaluators.by_graphs import OFTEN

UNIT = "image-iterations/s"


def contenders_of(problem: Problem) -> dict[str, Contender]:
    """Who solves a problem: plain (weights trainable), frozen (weights not), unrolled (folded steps), flowprior."""
    batch = problem.case.batch
    trainable = copy.deepcopy(problem.flow).requires_grad_(True)
    fixed = copy.deepcopy(problem.flow).requires_grad_(False)
    unrolled = FoldedFlow(problem.flow, torch.float32)
    every = {
        "plain": Contender(lambda steps: problem.descend(trainable, steps).seconds, batch),
        "frozen": Contender(lambda steps: problem.descend(fixed, steps).seconds, batch),
        "unrolled": Contender(lambda steps: problem.descend(unrolled, steps).seconds, batch),
        "flowprior": Contender(lambda steps: problem.solve(steps).seconds, batch),
        "flowprior, bf16": Contender(lambda steps: problem.solve(steps, "bf16").seconds, batch),
    }
    return {name: every[name] for name in problem.case.contenders}


def run(options: Options) -> Part:
    """Time every case."""
    device = device_named(options.device)
    suite = SUITES[options.suite] if options.suite else suite_for(device.type == "cuda", options.quick)
    rows: list[Row] = []
    for case in suite.flows:
        problem = [problem_of(case, device)]
        rows += _rows(problem, _timed(problem, suite), options.ceiling)
    # All sizes, and all batches, in one set of turns: the figures are ratios between them.
    for cases in (suite.sizes, suite.batches):
        problems = [problem_of(case, device) for case in cases]
        timings = _timed(problems, suite)
        rows += _rows(problems, timings, options.ceiling)
        if cases is suite.sizes:
            rows += _scaling_rows(suite, timings)
    return Part("Search: objective, gradient and Adam's step", tuple(rows), _NOTES)


_NOTES = (
    "plain: torch's layers, weights left trainable, `loss.backward()`, `torch.optim.Adam`, all threads; "
    "frozen: the same without weight gradients; unrolled: the same on folded steps; flowprior: `solvers.solve`, by its "
    "own clock.",
    "GFLOP/s: multiply-adds of the convolutions with values of the map, forward and gradient by the input, "
    "two operations each; for plain the weight gradients are not counted as work. Percent: of torch's matrix product "
    "(on a GPU in TF32, for bf16 too).",
)


def _timed(problems: Sequence[Problem], suite: Suite) -> dict[str, Timing]:
    """All contenders of all problems in turns; "<problem>/<contender>" -> its timing."""
    entries: dict[str, Contender] = {}
    for problem in problems:
        say(f"  {problem.case.name}")
        check_agreement(problem)
        entries |= {f"{problem.case.name}/{name}": entry for name, entry in contenders_of(problem).items()}
    return interleaved(entries, *suite.turns)


def _rows(problems: Sequence[Problem], timings: Mapping[str, Timing], ceiling: float) -> list[Row]:
    rows = []
    for problem in problems:
        own = {name: timings[f"{problem.case.name}/{name}"] for name in problem.case.contenders}
        rows += [_row(problem, name, own, ceiling) for name in own]
        rows += _memory_rows(problem)
    return rows


def _row(problem: Problem, name: str, timings: Mapping[str, Timing], ceiling: float) -> Row:
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


def _scaling_rows(suite: Suite, timings: Mapping[str, Timing]) -> list[Row]:
    """Cost per image at each size over that at the smallest."""
    rows = []
    for case in suite.sizes[1:]:
        smallest = suite.sizes[0]
        for name in case.contenders:
            small, large = (timings[f"{side.name}/{name}"] for side in (smallest, case))
            bound = suite.scaling_at_most.get(case.size) if name == "flowprior" else None
            target = Target("at most", bound) if bound else None
            found = ratio(small, large, f"{smallest.size} px")
            label = f"haar_glow (steps {TALL['steps']}), cost per image, {case.size} px over {smallest.size} px"
            facts, note = {"group": "scaling", "size": case.size}, f"{case.size**2 / smallest.size**2:g} x the pixels"
            rows.append(Row(label, name, None, "", None, found, target, note, facts))
    return rows
