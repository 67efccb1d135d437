"""A flow with fixed weights, its folded steps run by torch on any device; to a solver it is the flow itself.

Maps are kept as (N, H, W, C): an affine step is then one matrix product over all pixels of all images, and
convolutions get the layout that tensor cores read. Nothing waits for the device, so that a CUDA graph can hold a pass.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor

from flowprior.models.flows.base import Flow
from flowprior.models.flows.evaluators.base import FlowEvaluator
from flowprior.models.flows.evaluators.folded_level import Affine, FoldedLevel
from flowprior.models.flows.evaluators.linear import inverse_map
from flowprior.models.flows.evaluators.program import Step, folded

#: Over the pixels (0, 0), (0, 1), (1, 0), (1, 1) of a block: average, horizontal, vertical and diagonal details.
_HAAR = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))


class FoldedFlow(FlowEvaluator):
    """Forward, inverse and density of a flow whose weights do not change, on the device and in the dtype of the flow.

    It copies what it needs; later changes of the flow's weights do not reach it.

    Args:
        flow: the flow.
        network_dtype: of the convolutions inside couplings; everything else, log-determinants too, keeps the flow's.

    Raises:
        NotFoldableError: it has a layer that no step stands for.
    """

    def __init__(self, flow: Flow, network_dtype: torch.dtype) -> None:
        super().__init__(flow)
        self._low, self._range = flow.low, flow.high - flow.low
        self._network_dtype = network_dtype
        #: Who has gradients from the outputs of levels alone.
        self._retracing = f"flow '{flow.name}' with memory: reversible" if flow.reversible else None
        # On the CPU and in float64: folding is arithmetic on small matrices.
        with torch.no_grad():
            # Whether it can be, first: other layers may not bear to be copied.
            folded(flow)
            program = folded(copy.deepcopy(flow).requires_grad_(False).cpu().double())
            self._log_det = float(program.log_det)
            self._levels = self._of(_joined(program.steps))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.forward`."""
        h = (x * self._range + self._low).permute(0, 2, 3, 1)
        total = x.new_full((len(x),), self._log_det)
        parts = []
        for level, split in self._levels:
            h, log_det = level.through(h, False, self._retracing)
            total = total + log_det
            parts.append(h[..., split.keep :].permute(0, 3, 1, 2).flatten(1))
            h = h[..., : split.keep]
        return torch.cat(parts, dim=1), total

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As `Flow.inverse`."""
        h = z.new_empty(len(z), 1, 1, 0)
        total = z.new_full((len(z),), -self._log_det)
        for level, split in reversed(self._levels):
            latent = _latent(split, z)
            h, log_det = level.through(torch.cat([h, latent], dim=3) if split.keep else latent, True, self._retracing)
            total = total + log_det
        return (h.permute(0, 3, 1, 2) - self._low) / self._range, total

    def _of(self, steps: list[Step]) -> list[tuple[FoldedLevel, Step]]:
        """Levels, and the split after each."""
        levels = []
        level: list[Step] = []
        for step in steps:
            if step.kind == "split":
                levels.append((FoldedLevel(tuple(map(self._constants, level)), self._network_dtype), step))
                level = []
            else:
                level.append(step)
        return levels

    def _constants(self, step: Step) -> tuple[Step, Affine | None]:
        network = tuple(
            replace(
                convolution,
                weight=convolution.weight.to(self.reference.device, self._network_dtype).contiguous(
                    memory_format=torch.channels_last
                ),
                bias=convolution.bias.to(self.reference.device, self._network_dtype),
            )
            for convolution in step.network
        )
        if step.kind != "affine":
            return replace(step, network=network), None
        assert step.matrix is not None and step.shift is not None
        of_columns = (step.matrix, step.shift, *inverse_map(step.matrix, step.shift))
        return step, Affine(*(tensor.t().contiguous().to(self.reference) for tensor in of_columns))


def _joined(steps: tuple[Step, ...]) -> list[Step]:
    """The wavelet as a squeeze and a matrix, and matrices that follow each other as one."""
    found: list[Step] = []
    for step in steps:
        if step.kind == "haar":
            channels, height, width = step.shape
            matrix = torch.kron(torch.tensor(_HAAR, dtype=torch.float64) / 2, torch.eye(channels, dtype=torch.float64))
            # From blocks of channels to the squeeze's order: the four pixels of a channel side by side.
            order = torch.arange(4 * channels).reshape(4, channels).T.flatten()
            shape = (4 * channels, height // 2, width // 2)
            found.append(Step("squeeze", step.shape))
            step = Step("affine", shape, matrix=matrix[:, order], shift=matrix.new_zeros(len(matrix)))
        if step.kind == "scale":
            assert step.matrix is not None
            step = replace(step, kind="affine", matrix=step.matrix.diag())
        before = found[-1] if found else step
        if step.kind == before.kind == "affine" and found:
            assert step.matrix is not None and step.shift is not None
            assert before.matrix is not None and before.shift is not None
            shift = step.matrix @ before.shift + step.shift
            found[-1] = replace(step, matrix=step.matrix @ before.matrix, shift=shift)
        else:
            found.append(step)
    return found


def _latent(step: Step, z: Tensor) -> Tensor:
    """The part of latents (N, D) that a split left, as a map."""
    channels, height, width = step.shape
    shape = (channels - step.keep, height, width)
    return z[:, step.offset : step.offset + math.prod(shape)].reshape(len(z), *shape).permute(0, 2, 3, 1)
