"""Several solutions of each image as one: searched as one batch, their images averaged or the best of them kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from flowprior.solvers.base import Context, Result, Trace

#: What becomes of an image's copies: the mean of their images, or the one with the lowest loss.
Combine = Literal["mean", "best"]


def combined(copies: int, context: Context, search: Callable[[Context], Result], combine: Combine) -> Result:
    """`averaged` or `best`, as settings say."""
    return (averaged if combine == "mean" else best)(copies, context, search)


def averaged(copies: int, context: Context, search: Callable[[Context], Result]) -> Result:
    """Run a search over `copies` rows per image and average their images.

    Args:
        copies: rows per image, those of one image side by side.
        context: of the images.
        search: given a context for all rows, gives a result with `copies` rows per image.

    Returns:
        One row per image: images averaged, passes added up, diverged if any copy was, converged if all have. The
        posterior of an image is the mixture of its copies': samples side by side, variances added to the variance
        between copies. The latent of an average is none that was searched, so there is none.
    """
    if copies == 1:
        return search(context)
    observer = context.observer

    def observe(images: Tensor) -> dict[str, Tensor]:
        assert observer is not None
        return {name: value.repeat_interleave(copies) for name, value in observer(_mean(images, copies)).items()}

    result = search(replace(context, observer=observe if observer else None))
    statuses = [result.status[i : i + copies] for i in range(0, len(result.status), copies)]
    trace, shape = result.trace, result.images.shape[1:]
    return Result(
        _mean(result.images, copies),
        tuple("ok" if all(entry == "ok" for entry in group) else "diverged" for group in statuses),
        result.converged.reshape(-1, copies).all(1),
        copies * _mean(result.passes, copies),
        result.seconds,
        Trace(
            trace.passes * copies,
            trace.seconds,
            {name: _mean(value.T, copies).T for name, value in trace.values.items()},
        ),
        None if result.std is None else _mixed(result.images, result.std, copies),
        None if result.samples is None else result.samples.reshape(-1, copies * result.samples.shape[1], *shape),
    )


def best(copies: int, context: Context, search: Callable[[Context], Result]) -> Result:
    """Run a search over `copies` rows per image and keep of each image the row with the lowest loss.

    Args:
        copies: as in `averaged`.
        context: as in `averaged`.
        search: as in `averaged`; its trace has the loss.

    Returns:
        One row per image: everything of the row that is kept, its trace included, but passes added up: all copies
        were searched. A copy that diverged is kept only where all have.
    """
    if copies == 1:
        return search(context)
    observer = context.observer

    def observe(images: Tensor) -> dict[str, Tensor]:
        assert observer is not None
        each = [observer(images[copy::copies]) for copy in range(copies)]
        return {name: torch.stack([values[name] for values in each], 1).flatten() for name in each[0]}

    result = search(replace(context, observer=observe if observer else None))
    loss = result.trace.values["loss"][-1].cpu()
    good = torch.tensor([status == "ok" for status in result.status]) & torch.isfinite(loss)
    ranked = torch.where(good, loss, torch.inf).reshape(-1, copies)
    rows = torch.arange(len(ranked)) * copies + ranked.argmin(1)
    found = result.only(rows)
    trace = replace(found.trace, passes=found.trace.passes * copies)
    return replace(found, passes=copies * _mean(result.passes, copies), trace=trace)


def _mean(rows: Tensor, copies: int) -> Tensor:
    return rows.reshape(-1, copies, *rows.shape[1:]).mean(1)


def _mixed(images: Tensor, std: Tensor, copies: int) -> Tensor:
    between = images.reshape(-1, copies, *images.shape[1:]).var(1, correction=0)
    return (_mean(std.square(), copies) + between).sqrt()
