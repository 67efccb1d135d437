"""What `solve` is asked, checked and made uniform: measurements, keys, seed and values per image."""

from __future__ import annotations

import operator as operators
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowprior.errors import FlowpriorError
from flowprior.operators.base import Operator
from flowprior.operators.checking import check_batch, check_range
from flowprior.registry import validated

_TYPES = (torch.float32, torch.float64)


def measurements_of(y: Any, operator: Any, prior: Any) -> Tensor:
    """The measurements as a solver computes with them: without gradient, in the type of the prior's weights.

    Args:
        y: what was given.
        operator: the measurement operator.
        prior: the prior, or None.

    Raises:
        FlowpriorError: of another shape, type, range or device.
    """
    if not isinstance(operator, Operator):
        raise FlowpriorError(
            f"the operator must be one of flowprior.operators, got {operator!r}; build it by "
            "flowprior.operators.build(name, shape)"
        )
    check_batch(y, operator.measurement_shape, "the measurement")
    if y.dtype not in _TYPES:
        raise FlowpriorError(f"the measurement must be float32 or float64, got {y.dtype}; convert it by .float()")
    if operator.pictures:
        check_range(y, "the measurement")
    y = y.detach()
    weight = next((one for one in prior.parameters() if one.is_floating_point()), None) if _weighted(prior) else None
    if weight is None:
        return y
    if weight.device != y.device:
        raise FlowpriorError(
            f"the measurement lies on {y.device}, the prior on {weight.device}; move one: y.to('{weight.device}')"
        )
    return y.to(weight.dtype) if weight.dtype in _TYPES else y


def _weighted(prior: Any) -> bool:
    return isinstance(prior, nn.Module)


def keys_of(keys: Sequence[str] | None, count: int, repeated: bool) -> tuple[str, ...]:
    """The identity of each image; by default its number.

    Args:
        keys: what was given.
        count: number of images.
        repeated: whether rows may be the same image, at several settings.

    Raises:
        FlowpriorError: too few or too many, no text, or two alike.
    """
    if keys is None:
        return tuple(map(str, range(count)))
    if isinstance(keys, str):
        raise FlowpriorError(f"keys must name each image, got one text {keys!r}; give a list, [{keys!r}]")
    found = tuple(keys)
    if len(found) != count:
        raise FlowpriorError(f"keys must name each of the {count} images, got {len(found)}")
    for key in found:
        if not isinstance(key, str):
            raise FlowpriorError(f"keys must be texts, got {key!r}; give str(...) of each")
    if not repeated and len(set(found)) < count:
        twice = next(key for key in found if found.count(key) > 1)
        raise FlowpriorError(
            f"keys must differ, got {twice!r} twice: both images would have the same random start; name each"
        )
    return found


def seed_as_number(seed: Any) -> int:
    """The seed of an experiment.

    Raises:
        FlowpriorError: it is no whole number.
    """
    if not isinstance(seed, bool):
        try:
            return operators.index(seed)
        except TypeError:
            pass
    raise FlowpriorError(f"seed must be a whole number, got {seed!r}; give 0, say")


def weights_of(weights: Mapping[str, Any] | None, solver: Any, count: int) -> dict[str, Tensor]:
    """Settings that were given per image, as tensors (N,), each within the setting's range.

    Raises:
        FlowpriorError: of another shape, out of range, or not listed in the solver's `per_row`.
    """
    found = {}
    for entry, given in (weights or {}).items():
        values = torch.as_tensor(given)
        if entry not in solver.per_row or values.shape != (count,):
            raise FlowpriorError(
                f"'{entry}' of solver '{solver.name}' was given per image with shape {tuple(values.shape)}; "
                f"one value for each of {count} images may be given of: {', '.join(solver.per_row) or 'none'}"
            )
        for value in values.unique().tolist():
            settings = {**solver.settings.model_dump(), entry: value}
            validated(type(solver.settings), settings, f"solver '{solver.name}'")
        found[entry] = values
    return found
