"""Two searches, one after the other, as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from flowprior.optim.recorder import Trace
from flowprior.solvers.base import Context, Result


def joined(first: Result, second: Result) -> Result:
    """The second of two searches of the same images, with the first in front of it.

    Returns:
        Images of the second, or of the first where that diverged; passes and seconds added up, traces one after the
        other; diverged where either is.
    """
    before, after = first.trace, second.trace
    trace = Trace(
        torch.cat([before.passes, before.passes[-1] + after.passes]),
        torch.cat([before.seconds, first.seconds + after.seconds]),
        {name: torch.cat([seen, after.values[name]]) for name, seen in before.values.items()},
    )
    statuses = zip(first.status, second.status, strict=True)
    status = tuple("ok" if one == other == "ok" else "diverged" for one, other in statuses)
    # The second went on from what the first had lost: it says nothing of the image.
    lost = torch.tensor([said != "ok" for said in first.status], device=second.images.device)
    return replace(
        second,
        images=torch.where(lost.reshape(-1, 1, 1, 1), first.images, second.images),
        status=status,
        converged=second.converged & torch.tensor([said == "ok" for said in status]),
        passes=first.passes + second.passes,
        seconds=first.seconds + second.seconds,
        trace=trace,
    )


def telling(context: Context, before: int, whole: int) -> Context:
    """A context for one of several searches, whose progress is that of all of them.

    Args:
        context: of the whole.
        before: steps of the searches before this one.
        whole: steps of all of them.
    """
    told: Callable[[int, int], None] | None = context.progress
    if told is None:
        return context
    say = told
    return replace(context, progress=lambda step, steps: say(before + step, whole))
