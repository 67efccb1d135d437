"""Peak memory of a training step of shallow and of deep flows, each in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from benchmarks.memory import in_a_process, resident
from benchmarks.model import Options, Part, Ratio, Row, Target, say
from flowprior.models import flows
from flowprior.models.flows.base import Flow, standard_normal_log_prob
from flowprior.models.flows.layers import Chain, Squeeze

_DEPTHS = (6, 48)
_LIMIT = 1.3
_SIDE, _LEVELS, _WIDTH = 32, 3, 64
#: Of a full run, and of a quick one.
_BATCHES = (64, 8)
#: The first fills Adam's moments and memory that is used again; the others are timed.
_STEPS = 3


def run(options: Options) -> Part:
    """Train each way at each depth."""
    batch = _BATCHES[options.quick]
    rows = []
    for way in WAYS:
        peaks: list[float] = []
        for depth in _DEPTHS:
            say(f"  {way}, {depth} steps a level")
            facts = in_a_process("benchmarks.depth", way, depth, batch)
            peaks.append(facts["peak_gb"])
            deep = depth == _DEPTHS[-1]
            grown = peaks[-1] / peaks[0]
            ratio = Ratio(grown, grown, grown, f"{_DEPTHS[0]} steps") if deep else None
            judged = deep and way == "reversible"
            target = Target("at most", _LIMIT, judged=not options.quick) if judged else None
            note = f"{facts['step_gb']:.3f} GB more than before the step; {facts['seconds']:.2f} s a step"
            case = f"{_LEVELS} levels of {depth} steps, width {_WIDTH}, batch {batch}"
            rows.append(Row(case, way, facts["peak_gb"], "GB", None, ratio, target, note, facts))
    notes = (
        f"`glow` at {_SIDE} px, float32, one thread: log p, its gradient by torch's autograd, Adam.",
        "Weights, their gradients and moments grow with the steps whatever is kept of activations. checkpoint: "
        "`torch.utils.checkpoint` around every flow step, which keeps each step's input.",
    )
    return Part("Peak resident memory of a training step, by depth", tuple(rows), notes)


def plain(flow: Flow, x: Tensor) -> Tensor:
    """Log p as the flow computes it."""
    return flow.log_prob(x)


def checkpointed(flow: Flow, x: Tensor) -> Tensor:
    """Log p with every flow step computed again for its gradient."""
    h = x * (flow.high - flow.low) + flow.low
    total, parts = x.new_zeros(len(x)), []
    for level, keep in zip(flow.levels, (*flow.carried, 0), strict=True):
        squeeze, *layers = level.parts
        assert isinstance(squeeze, Squeeze)
        h = squeeze(h)[0]
        for first in range(0, len(layers), 3):
            h, log_det = checkpoint(Chain(layers[first : first + 3]), h, use_reentrant=False)
            total = total + log_det
        parts.append(h[:, keep:].flatten(1))
        h = h[:, :keep]
    return standard_normal_log_prob(torch.cat(parts, dim=1)) + total


WAYS: dict[str, Callable[[Flow, Tensor], Tensor]] = {"plain": plain, "checkpoint": checkpointed, "reversible": plain}


def job(way: str, depth: int, batch: int) -> dict[str, float]:
    """Training steps in this process; how much memory they took, in GB, and seconds a step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    memory = "reversible" if way == "reversible" else "plain"
    shape = (3, _SIDE, _SIDE)
    flow = flows.build("glow", shape, levels=_LEVELS, steps=depth, hidden=_WIDTH, memory=memory)
    images = torch.rand(batch, *shape)
    flow.initialise(images[:8])
    optimiser = torch.optim.Adam(flow.parameters(), 1e-4)
    before = resident("VmRSS")
    started = time.perf_counter()
    for step in range(_STEPS):
        if step == 1:
            started = time.perf_counter()
        optimiser.zero_grad()
        (-WAYS[way](flow, images).mean()).backward()
        optimiser.step()
    seconds = (time.perf_counter() - started) / (_STEPS - 1)
    peak = resident("VmHWM")
    return {"peak_gb": peak / 1e9, "step_gb": (peak - before) / 1e9, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(job(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
