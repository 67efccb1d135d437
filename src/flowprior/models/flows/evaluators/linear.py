"""Actnorms and 1x1 matrices that follow each other as one affine map per pixel, and their log-determinants.

Layers of the same kind and size are computed together: training folds a flow anew at every step, and a hundred small
operations and their gradients would cost a tenth of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowprior.models.flows.layers import ActNorm, Mixing

#: Layers that follow each other.
Row = tuple[ActNorm | Mixing, ...]


def affines(rows: Sequence[Row]) -> list[tuple[Tensor, Tensor]]:
    """Each row as z = matrix x + shift.

    Returns:
        (matrix, shift) for each: matrix (C, C), or (C,) where it is diagonal; shift (C,).
    """
    found: dict[int, tuple[Tensor, Tensor]] = {}
    glows: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        if len(row) == 2 and isinstance(row[0], ActNorm) and isinstance(row[1], Mixing):
            glows.setdefault(len(row[1].weight), []).append(number)
        else:
            found[number] = _one_by_one(row)
    for numbers in glows.values():
        norms = [rows[number][0] for number in numbers]
        scales = torch.stack([norm.log_scales.flatten() for norm in norms if isinstance(norm, ActNorm)]).exp()
        shifts = torch.stack([norm.shift.flatten() for norm in norms if isinstance(norm, ActNorm)])
        weights = torch.stack([rows[number][1].weight for number in numbers])  # type: ignore[misc]
        matrices = weights * scales[:, None, :]
        moved = (matrices @ shifts[:, :, None])[:, :, 0]
        found |= dict(zip(numbers, zip(matrices.unbind(), moved.unbind(), strict=True), strict=True))
    return [found[number] for number in range(len(rows))]


def inverse_map(matrix: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix, or diagonal, and shift of x = matrix^-1 (z - shift); computed in float64, NaN where there is none."""
    if matrix.ndim == 1:
        return 1 / matrix, -shift / matrix
    # Towards latents such a flow can still be asked.
    back, failed = torch.linalg.inv_ex(matrix.double())
    back = torch.where(failed > 0, torch.nan, back)
    return back.to(matrix), (-back @ shift.double()).to(matrix)


def log_det_of(rows: Sequence[Row], areas: Sequence[int]) -> Tensor:
    """Sum of the log-determinants of all rows, each on a map of so many pixels; float64, on the CPU."""
    scales, weights = [], dict[int, list[tuple[Tensor, int]]]()
    for row, area in zip(rows, areas, strict=True):
        for layer in row:
            if isinstance(layer, ActNorm):
                scales.append((layer.log_scales.flatten(), area))
            else:
                weights.setdefault(len(layer.weight), []).append((layer.weight, area))
    total = torch.zeros((), dtype=torch.float64)
    if scales:
        counts = torch.tensor([len(scale) for scale, _ in scales])
        by_value = torch.tensor([float(area) for _, area in scales], dtype=torch.float64).repeat_interleave(counts)
        total = total + torch.cat([scale for scale, _ in scales]).double().cpu() @ by_value
    for same in weights.values():
        logs = torch.stack([weight for weight, _ in same]).double().slogdet()[1].cpu()
        total = total + logs @ torch.tensor([float(area) for _, area in same], dtype=torch.float64)
    return total


def _one_by_one(row: Row) -> tuple[Tensor, Tensor]:
    first, *others = row
    if isinstance(first, Mixing):
        matrix, shift = first.weight.view_as(first.weight), first.weight.new_zeros(len(first.weight))
    else:
        matrix = first.log_scales.flatten().exp()
        shift = matrix * first.shift.flatten()
    for layer in others:
        if isinstance(layer, Mixing):
            matrix = layer.weight * matrix if matrix.ndim == 1 else layer.weight @ matrix
            shift = layer.weight @ shift
        else:
            scale = layer.log_scales.flatten().exp()
            matrix = scale * matrix if matrix.ndim == 1 else scale[:, None] * matrix
            shift = scale * (shift + layer.shift.flatten())
    return matrix, shift
