"""What half precision inside couplings costs a search, in dB: the same searches by torch in float32 and in bf16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from benchmarks.accelerator import device_named
from benchmarks.cases import FIXED
from benchmarks.model import Options, Part, Row, Target, say
from benchmarks.photographs import subject
from benchmarks.quality import TASKS, Measured, measured_images, solved
from flowprior.evaluation.metrics import psnr
from flowprior.solvers.memory import Memory

#: At most so much of the mean may be lost.
_BOUND = 0.02
#: solver -> settings beside the task's: rates at which searches converge, so that what differs is the precision.
SEARCHES: Mapping[str, dict[str, Any]] = {
    "map": {**FIXED, "start": "zero_latent", "steps": 100, "learning_rate": 0.015},
    "chavez": {"steps": 150, "learning_rate": 0.05, "init_std": 0.1, "tolerance": 0.0},
}


def run(options: Options) -> Part:
    """Every search on every task, in both precisions."""
    count, share = (8, 0.1) if options.quick else (192, 1.0)
    chosen = subject(options, count)
    chosen.flow.to(device_named(options.device))
    rows = []
    for name, task in TASKS.items():
        say(f"  {name}")
        measured = measured_images(chosen, name, task.task)
        for solver, settings in SEARCHES.items():
            own = settings | (task.map if solver == "map" else {"alpha": task.alpha})
            own["steps"] = max(2, round(share * own["steps"]))
            rows.append(_row(measured, solver, own, judged=not options.quick))
    notes = (
        chosen.about,
        "Difference of the mean PSNR, bf16 less float32, and its range of one standard error; by torch's folded steps "
        "in both, since the CPU's kernel computes in float32 whatever is set.",
    )
    return Part("Search: what bf16 inside couplings costs", tuple(rows), notes)


def _row(measured: Measured, solver: str, settings: dict[str, Any], judged: bool) -> Row:
    full, half = (_psnr(measured, solver, settings | {"precision": name}) for name in ("float32", "bf16"))
    change = (half - full).double()
    mean, error = float(change.mean()), float(change.std() / len(change) ** 0.5)
    rms = float(change.square().mean().sqrt())
    note = f"{float(full.mean()):.2f} dB in float32; one image {rms:.2g} dB rms"
    facts = {"task": measured.name, "mean": mean, "standard_error": error, "rms": rms, "psnr": float(full.mean())}
    return Row(
        measured.name,
        solver,
        mean,
        "dB",
        (mean - error, mean + error),
        None,
        Target("at least", -_BOUND, judged),
        note,
        facts,
    )


def _psnr(measured: Measured, solver: str, settings: dict[str, Any]) -> Tensor:
    """PSNR of each image (N,)."""
    result = solved(measured, solver, Memory(kernel=False), **settings)
    return psnr(result.images, measured.truth, 1.0)
