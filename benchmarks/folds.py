"""Peak memory of a training step through unfolded flows, by folds and by depth, each in a process of its own."""

from __future__ import annotations

import json
import sys
import time

import torch

from benchmarks.memory import in_a_process, resident
from benchmarks.model import Options, Part, Ratio, Row, Target, say
from flowprior import models, operators
from flowprior.operators.task import TaskSettings
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import Task, trainable_of

#: Folds at one depth, and depths at one number of folds.
_CASES = ((1, 8), (2, 8), (4, 8), (8, 8), (4, 2), (4, 32))
#: The most that a reversible step may grow with 16 times the depth, weights and their gradients left out.
_LIMIT = 1.3
_SIDE, _LEVELS, _WIDTH = 32, 3, 32
#: Of a full run, and of a quick one.
_BATCHES = (32, 8)
_STEPS = 2


def run(options: Options) -> Part:
    """Each way, at each number of folds and each depth."""
    batch = _BATCHES[options.quick]
    rows = []
    for way in ("plain", "reversible", "kernel"):
        found: dict[tuple[int, int], dict[str, float]] = {}
        for folds, depth in _CASES:
            say(f"  {way}, {folds} folds, {depth} steps a level")
            facts = found[folds, depth] = in_a_process("benchmarks.folds", way, folds, depth, batch)
            deepest, target = (folds, depth) == (4, 32), None
            ratio = None
            if deepest:
                grown = facts["activations_gb"] / found[4, 2]["activations_gb"]
                ratio = Ratio(grown, grown, grown, "2 steps")
                target = Target("at most", _LIMIT, judged=not options.quick) if way == "reversible" else None
            note = f"peak of the process {facts['peak_gb']:.2f} GB; {facts['seconds']:.2f} s a step"
            case = f"{folds} folds, {_LEVELS} levels of {depth} steps, batch {batch}"
            rows.append(Row(case, way, facts["activations_gb"], "GB", None, ratio, target, note, facts))
    notes = (
        f"`unfolded` with `glow` of width {_WIDTH} at {_SIDE} px, float32, one thread: the mean squared error of the "
        "last fold, its gradient, Adam.",
        "plain, reversible: by torch's layers, as `memory` says; kernel: as training does it on the CPU.",
        "GB: the peak of a step less what weights, gradients and moments take, measured by a step on one image.",
    )
    return Part("Peak memory of a training step, by folds", tuple(rows), notes)


def job(way: str, folds: int, depth: int, batch: int) -> dict[str, float]:
    """Training steps in this process; how much memory they took, in GB, and seconds a step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = (3, _SIDE, _SIDE)
    flow = {"levels": _LEVELS, "steps": depth, "hidden": _WIDTH}
    memory = "reversible" if way == "reversible" else "plain"
    model = models.build("unfolded", shape, folds=folds, prox="glow", prox_settings=flow, memory=memory)
    task = Task("folds", operators.build("center_mask", shape), TaskSettings(operator="center_mask"))
    trainable = trainable_of(model, TrainingSettings(), 8, task)
    if way != "kernel":
        trainable.by_layers()
    optimiser = torch.optim.Adam(model.parameters(), 1e-4)
    x = torch.rand(batch, *shape)

    def step(images: torch.Tensor) -> None:
        parts = [(task.operator.A(images), images)]
        _, found = trainable.gradients("unfolded", parts, 1 / len(images), lambda run, each: [run(one) for one in each])
        for weight, gradient in zip(model.parameters(), found, strict=True):
            weight.grad = gradient
        optimiser.step()

    for _ in range(_STEPS):  # gradients of the step before are there while the next come
        step(x[:1])
    before = resident("VmHWM")
    started = time.perf_counter()
    for _ in range(_STEPS):
        step(x)
    seconds = (time.perf_counter() - started) / _STEPS
    peak = resident("VmHWM")
    return {"peak_gb": peak / 1e9, "activations_gb": (peak - before) / 1e9, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(job(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
