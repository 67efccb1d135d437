"""A flow on a GPU whose evaluations with gradient are recorded once for a shape and then launched as one.

A search asks for the same pass, over as many rows, hundreds of times. Its kernels are small and many; launching them
one by one takes longer than what they do.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable
from typing import cast

import torch
from torch import Tensor

from flowprior.flows.base import FlowLike, standard_normal_log_prob

#: One direction of a flow: rows to (values, log-determinants).
Pass = Callable[[Tensor], tuple[Tensor, Tensor]]
#: From a pass and rows like those to come to the same pass, for rows of that shape and dtype alone.
Capture = Callable[[Pass, Tensor], Pass]

#: When a shape is recorded: that costs some evaluations, and as rows leave a search many shapes come only a few times.
OFTEN = 10


def cuda_graph(plain: Pass, rows: Tensor) -> Pass:
    """Record a pass and its gradient as CUDA graphs.

    Args:
        plain: what is recorded; it must not wait for the device.
        rows: an example, on the GPU.

    Returns:
        The pass, with results in memory of their own: those of the graphs are overwritten by the next launch. What
        the gradient needs is overwritten too, so it is to be taken before the next launch; later is an error.

    Raises:
        RuntimeError: rows are not on a GPU, or the pass cannot be recorded.
    """
    if not rows.is_cuda:
        raise RuntimeError(f"CUDA graphs hold work of a GPU, got rows on {rows.device}; call the pass itself there")
    example = rows.detach().clone().requires_grad_(True)
    recorded = cast(Pass, torch.cuda.make_graphed_callables(plain, (example,)))
    launches = 0

    def launch(given: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal launches
        launches += 1
        number = launches

        def owned(gradient: Tensor) -> Tensor:
            if number != launches:
                raise RuntimeError("a recorded pass has a gradient until the next pass; evaluate it again")
            return gradient.clone()

        inside = given.view_as(given)
        inside.register_hook(owned)
        values, log_det = recorded(inside)
        return values.clone(), log_det.clone()

    return launch


class GraphedFlow:
    """A flow whose passes with gradient are recorded when a shape comes often.

    One recording is kept, because each holds the memory of a whole evaluation: that of the shape that was recorded
    last. Other shapes, and passes without gradient, are computed as they are. When a recording fails, a warning says
    so once, and everything is computed as it is from then on.

    Args:
        flow: whose weights do not change.
        capture: how a pass is recorded.
    """

    def __init__(self, flow: FlowLike, capture: Capture = cuda_graph) -> None:
        self.name, self.shape, self.dimensions = flow.name, flow.shape, flow.dimensions
        self.sample = flow.sample
        self._flow, self._capture = flow, capture
        self._seen: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, Pass] = {}
        self._failed = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.forward`."""
        return self._pass("forward", self._flow.forward, x)(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.inverse`."""
        return self._pass("inverse", self._flow.inverse, z)(z)

    __call__ = forward

    def log_prob(self, x: Tensor) -> Tensor:
        """As `Flow.log_prob`."""
        z, log_det = self.forward(x)
        return standard_normal_log_prob(z) + log_det

    def _pass(self, direction: str, plain: Pass, rows: Tensor) -> Pass:
        """The recording for these rows, made if they have come often enough; else the pass itself."""
        if self._failed or not (torch.is_grad_enabled() and rows.requires_grad):
            return plain
        key = (direction, rows.shape, rows.dtype, rows.device)
        self._seen[key] += 1
        if key not in self._recorded and self._seen[key] >= OFTEN:
            # First, so that the memory of the old one serves the new one.
            self._recorded.clear()
            try:
                self._recorded[key] = self._capture(plain, rows)
            except RuntimeError as error:
                self._failed = True
                said = next(iter(str(error).splitlines()), type(error).__name__)
                warnings.warn(
                    f"flow '{self.name}': {direction} of {tuple(rows.shape)} could not be recorded as a CUDA graph "
                    f"({said}); the search goes on without, slower where batches are small",
                    RuntimeWarning,
                    stacklevel=3,
                )
        return self._recorded.get(key, plain)
