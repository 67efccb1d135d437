"""A flow on a GPU whose evaluations with gradient are recorded once for a shape and then launched as one.

A search asks for the same pass, over as many rows, hundreds of times. Its kernels are small and many; launching them
one by one takes longer than what they do.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Hashable
from typing import cast

import torch
from torch import Tensor

from flowprior.models.flows.base import Flow
from flowprior.models.flows.evaluators.base import FlowEvaluator
from flowprior.models.flows.once import once

#: One direction of a flow: rows to (values, log-determinants).
Pass = Callable[[Tensor], tuple[Tensor, Tensor]]
#: From a pass and rows like those to come to the same pass, for rows of that shape and dtype alone.
Capture = Callable[[Pass, Tensor], Pass]

#: How often in a row a shape comes before it is recorded: that costs some evaluations, and as rows leave a search
#: many shapes come only a few times.
OFTEN = 10


def cuda_graph(plain: Pass, rows: Tensor) -> Pass:
    """Record a pass and its gradient as CUDA graphs.

    Args:
        plain: what is recorded; it must not wait for the device.
        rows: an example, on the GPU.

    Returns:
        The pass for rows like the example, as `owned` makes it.

    Raises:
        RuntimeError: rows are not on a GPU, or the pass cannot be recorded.
    """
    if not rows.is_cuda:
        raise RuntimeError(f"CUDA graphs hold work of a GPU, got rows on {rows.device}; call the pass itself there")
    example = rows.detach().clone().requires_grad_(True)
    return owned(cast(Pass, torch.cuda.make_graphed_callables(plain, (example,))))


def owned(recorded: Pass) -> Pass:
    """A recorded pass with results and gradients in memory of their own.

    Those of the recording lie where its next launch writes. So does what its gradient needs: that is to be taken
    before the next launch, and later is a RuntimeError. It has no gradient of its own.
    """
    launches = 0

    def launch(rows: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal launches
        launches += 1
        number = launches

        def kept(gradient: Tensor) -> Tensor:
            if number != launches:
                raise RuntimeError("a recorded pass has a gradient until the next pass; evaluate it again")
            return once(gradient.clone(), "a recorded pass", rows, gradient)

        inside = rows.view_as(rows)
        inside.register_hook(kept)
        values, log_det = recorded(inside)
        return values.clone(), log_det.clone()

    return launch


class GraphFlow(FlowEvaluator):
    """A flow whose passes with gradient are recorded when one shape comes often.

    A recording holds the memory of a whole evaluation, so there is one at most, and it goes as soon as another shape
    comes. Until a shape has come often, and without gradient, passes are computed as they are. When a recording fails,
    a warning says so once, and everything is computed as it is from then on.

    Args:
        flow: whose weights do not change.
        capture: how a pass is recorded.
    """

    def __init__(self, flow: Flow | FlowEvaluator, capture: Capture = cuda_graph) -> None:
        super().__init__(flow)
        self._flow, self._capture = flow, capture
        self._key: Hashable = None
        self._times = 0
        self._recorded: Pass | None = None
        self._failed = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.forward`."""
        return self._pass("forward", self._flow.forward, x)(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.inverse`."""
        return self._pass("inverse", self._flow.inverse, z)(z)

    def _pass(self, direction: str, plain: Pass, rows: Tensor) -> Pass:
        """The recording for these rows, made if they have come often enough; else the pass itself."""
        if self._failed or not (torch.is_grad_enabled() and rows.requires_grad):
            return plain
        key = (direction, rows.shape, rows.dtype, rows.device)
        if key != self._key:
            self._key, self._times = key, 0
            self._forget()
        self._times += 1
        if self._recorded is None and self._times >= OFTEN:
            self._record(direction, plain, rows)
        return self._recorded or plain

    def _record(self, direction: str, plain: Pass, rows: Tensor) -> None:
        try:
            self._recorded = self._capture(plain, rows)
        except RuntimeError as error:
            self._failed = True
            said = next(iter(str(error).splitlines()), type(error).__name__)
            warnings.warn(
                f"flow '{self.name}': {direction} of {tuple(rows.shape)} could not be recorded as a CUDA graph "
                f"({said}); the search goes on without, slower where batches are small",
                RuntimeWarning,
                stacklevel=4,
            )

    def _forget(self) -> None:
        """Give back the recording's memory: torch keeps it in a class, and classes go when garbage is collected."""
        if self._recorded is not None:
            self._recorded = None
            gc.collect()
