"""Evaluations and seconds until a search is as good as the paper's: 1500 steps of Adam at 0.005 by a plain program."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.accelerator import device_named
from benchmarks.cases import FIXED
from benchmarks.model import Options, Part, Ratio, Row, Target, say
from benchmarks.photographs import Subject, subject
from benchmarks.plain import descend, latent_objective, latent_start
from flowprior import operators, solvers
from flowprior.evaluation.metrics import psnr
from flowprior.images.quantise import targets
from flowprior.operators.base import Operator
from flowprior.operators.measuring import measure_images
from flowprior.operators.task import TaskSettings
from flowprior.solvers.base import Observer, Result

#: How near the paper's final PSNR counts as reached, in dB.
TOLERANCE = 0.1
_REFERENCE = "plain, the paper's protocol"
_RATE, _INIT_STD, _SEED = 0.005, 0.1, 0
_RECORDS = 40


@dataclass(frozen=True)
class Task:
    """A task of the paper: its weight of -log p(x), how `map` is set for it, and the fast protocol where it differs."""

    task: TaskSettings
    alpha: float
    map: dict[str, Any]
    fast: dict[str, Any] = field(default_factory=dict)


TASKS = {
    "denoising": Task(TaskSettings(operator="identity", noise_std=0.1, as_image=True), 0.05, {"noise_std": 0.06}),
    "deblurring": Task(
        TaskSettings(operator="box_blur", settings={"size": 3}),
        0.02,
        # The blur has an inverse and no noise: A_dagger y is nearer than any other start, and so is its latent.
        {"noise_std": 0.002, "start": "pseudo_inverse"},
        {"start": "pseudo_inverse", "init_std": 0.0},
    ),
    "inpainting": Task(
        TaskSettings(operator="center_mask"),
        0.002,
        {
            **{
                "noise_std": 0.01,
                "project": True,
                "start": "sample_moments",
                "samples": 4096,
                "samples_noise_std": 0.03,
            },
            **{"steps": 40, "learning_rate": 0.004},
        },
    ),
    "colorization": Task(
        TaskSettings(operator="channel_mean"), 0.02, {"noise_std": 0.01, "project": True, "start": "zero_latent"}
    ),
}
_FAST = {"tolerance": 0.0, "steps": 150, "schedule": "cosine", "init_std": _INIT_STD}
#: name -> (solver, settings); the task adds its own: alpha for chavez, the assumed noise for map, starts.
CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"chavez, Adam at {rate}": ("chavez", _FAST | {"learning_rate": rate}) for rate in (0.1, 0.2)},
    "chavez, L-BFGS": (
        "chavez",
        {"optimiser": "lbfgs", "smoothing": 0.03, "steps": 150, "learning_rate": 0.05, "init_std": _INIT_STD},
    ),
    "map": ("map", {**FIXED, "start": "zero_latent", "steps": 100, "learning_rate": 0.015}),
}


@dataclass(frozen=True)
class Line:
    """Mean PSNR on the way: passes per image, seconds of the batch, dB."""

    passes: tuple[float, ...]
    seconds: tuple[float, ...]
    psnr: tuple[float, ...]

    def reaches(self, level: float) -> tuple[float, float] | None:
        """Evaluations and seconds at which `level` is first reached; None if never."""
        for passes, seconds, value in zip(self.passes, self.seconds, self.psnr, strict=True):
            if value >= level:
                return passes, seconds
        return None


@dataclass(frozen=True)
class Measured:
    """The measurements of one task, and the truth that PSNR is taken against."""

    name: str
    operator: Operator
    y: Tensor
    truth: Tensor
    subject: Subject


def run(options: Options) -> Part:
    """Every contender on every task."""
    steps, count, rounds = (200, 8, 1) if options.quick else (1500, 32, 3)
    chosen = subject(options, count)
    chosen.flow.to(device_named(options.device))
    rows, curves = [], []
    reached: dict[str, list[tuple[float, float] | None]] = {name: [] for name in CONTENDERS}
    for name, task in TASKS.items():
        say(f"  {name}")
        measured = measured_images(chosen, name, task.task)
        reference = _reference(measured, task, steps)
        level = reference.psnr[-1] - TOLERANCE
        rows.append(_reference_row(name, reference))
        curves.append(_curve(name, _REFERENCE, reference, level))
        for contender, (solver, settings) in CONTENDERS.items():
            memory: dict[Hashable, Any] = {}
            setup = _setup(measured, task, solver, settings, memory)
            lines = [_solve(measured, task, solver, settings, memory) for _ in range(rounds)]
            row, ratios = _row(name, contender, lines, reference, level, setup)
            rows.append(row)
            curves.append(_curve(name, contender, lines[0], level))
            reached[contender].append(ratios)
    rows += _worst_rows(reached, judged=not options.quick)
    notes = [
        chosen.about,
        f"Reference: `chavez` as a plain torch program, {steps} steps of Adam at {_RATE}; reached: the mean PSNR over "
        f"the images is within {TOLERANCE} dB of the reference's last. Seconds are of the whole batch.",
        "A search is looked at about 30 times, so a level is seen late rather than early. Setup: what is derived from "
        "the prior once for all images, outside the seconds: its folded constants, and for map's start in inpainting "
        "the linear estimate under the Gaussian of its samples.",
    ]
    if options.quick:
        notes.append(f"Quick: {count} images and {steps} instead of 1500 reference steps, so targets are not judged.")
    return Part("Search: passes and seconds to the paper's quality", tuple(rows), tuple(notes), tuple(curves))


def measured_images(chosen: Subject, name: str, task: TaskSettings) -> Measured:
    """What a task measures of the subject's images."""
    operator = operators.build(task.operator, chosen.flow.shape, **task.settings)
    key = (_SEED, "benchmark")
    device = next(chosen.flow.parameters()).device
    y = measure_images(operator, chosen.pixels, chosen.names, task, chosen.bits, key, name).to(device)
    return Measured(name, operator, y, targets(chosen.pixels, chosen.names, chosen.bits, key).to(device), chosen)


def solved(
    measured: Measured, solver: str, memory: dict[Hashable, Any], observer: Observer | None = None, **settings: Any
) -> Result:
    """A solver's answer to the measurements, as its users ask for it."""
    return solvers.solve(
        solver,
        measured.operator,
        measured.y,
        measured.subject.flow,
        keys=measured.subject.names,
        seed=_SEED,
        observer=observer,
        memory=memory,
        **settings,
    )


def _reference(measured: Measured, task: Task, steps: int) -> Line:
    """The paper's protocol, with weights left trainable as in its program."""
    flow = copy.deepcopy(measured.subject.flow).to(memory_format=torch.contiguous_format).requires_grad_(True)  # type: ignore[call-overload]
    start = latent_start(flow.dimensions, measured.subject.names, _SEED, _INIT_STD).to(measured.y)
    objective = latent_objective(flow, measured.operator, measured.y, task.alpha)
    wanted = {round(steps * (i / _RECORDS) ** 1.5) for i in range(1, _RECORDS + 1)} | {steps}
    seen: list[tuple[float, float, float]] = []

    def observe(step: int, seconds: float, z: Tensor) -> None:
        if step in wanted:
            with torch.no_grad():
                images = flow.inverse(z)[0].clamp(0, 1)
            seen.append((step, seconds, float(psnr(images, measured.truth, 1.0).mean())))

    descend(objective, start, steps, _RATE, observe)
    return Line(*(tuple(column) for column in zip(*seen, strict=True)))


def _setup(measured: Measured, task: Task, solver: str, settings: dict[str, Any], memory: dict[Hashable, Any]) -> float:
    """Seconds that a first call takes beside its search; also the warm-up."""
    started = time.perf_counter()
    line = _solve(measured, task, solver, settings, memory, steps=1)
    return time.perf_counter() - started - line.seconds[-1]


def _solve(
    measured: Measured, task: Task, solver: str, settings: dict[str, Any], memory: dict[Hashable, Any], **more: Any
) -> Line:
    own = settings | ({"alpha": task.alpha} | task.fast if solver == "chavez" else task.map) | more
    trace = solved(measured, solver, memory, lambda images: {"psnr": psnr(images, measured.truth, 1.0)}, **own).trace
    means = trace.values["psnr"].mean(1)
    return Line(tuple(trace.passes.tolist()), tuple(trace.seconds.tolist()), tuple(means.tolist()))


def _reference_row(name: str, line: Line) -> Row:
    facts = {"task": name, "psnr": line.psnr[-1], "passes": line.passes[-1], "seconds": line.seconds[-1]}
    note = f"{line.psnr[-1]:.2f} dB after {line.passes[-1]:.0f} passes"
    return Row(name, _REFERENCE, line.seconds[-1], "s", note=note, facts=facts)


def _row(
    name: str, contender: str, lines: Sequence[Line], reference: Line, level: float, setup: float
) -> tuple[Row, tuple[float, float] | None]:
    """The row of one contender on one task, and how many times fewer passes and seconds it took."""
    best = max(lines[0].psnr)
    facts = {
        "task": name,
        "psnr": lines[0].psnr[-1],
        "best_psnr": best,
        "passes": None,
        "seconds": None,
        "setup": setup,
    }
    found = [reached for line in lines if (reached := line.reaches(level)) is not None]
    if not found:
        note = f"not reached: at best {best - level - TOLERANCE:+.2f} dB, after {lines[0].passes[-1]:.0f} passes"
        return Row(name, contender, note=note, facts=facts), None
    passes, seconds = found[0][0], [spent for _, spent in found]
    # The first record may be the start itself, before any evaluation.
    fewer = reference.passes[-1] / max(passes, 1.0)
    times = [reference.seconds[-1] / max(spent, 1e-4) for spent in seconds]
    ratio = Ratio(statistics.median(times), min(times), max(times), "as quick")
    facts |= {"passes": passes, "seconds": statistics.median(seconds), "fewer_passes": fewer}
    where = f"{passes:.0f} passes, {fewer:.0f} times fewer" if passes else "its start is there already"
    note = f"{where}; at the end {lines[0].psnr[-1]:.2f} dB; setup {setup:.2g} s"
    spread = (min(seconds), max(seconds))
    return Row(name, contender, statistics.median(seconds), "s", spread, ratio, None, note, facts), (fewer, ratio.value)


def _worst_rows(reached: dict[str, list[tuple[float, float] | None]], judged: bool) -> list[Row]:
    """Over all tasks: how many times fewer passes and seconds, at the least; nothing where one is not reached."""
    rows = []
    for index, (what, bound) in enumerate((("fewer passes", 10.0), ("as quick", 30.0))):
        for contender, found in reached.items():
            whole = [entry[index] for entry in found if entry is not None]
            everywhere = len(whole) == len(found)
            ratio = Ratio(min(whole), min(whole), min(whole), what) if everywhere else None
            note = "" if everywhere else f"reached on {len(whole)} of {len(found)} tasks"
            target, facts = Target("at least", bound, judged), {"group": "worst", "what": what}
            case = f"all {len(found)} tasks, the worst of them: {what}"
            rows.append(Row(case, contender, None, "", None, ratio, target, note, facts))
    return rows


def _curve(panel: str, label: str, line: Line, level: float) -> dict[str, Any]:
    return {"panel": panel, "label": label, "x": line.seconds, "y": line.psnr, "level": level}
