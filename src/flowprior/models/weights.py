"""Whether a model is still what it was: its content, bit by bit."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from flowprior.tensors import checksum


def content_of(model: Any) -> Hashable:
    """What changes whenever a tensor of a model does: checksums of all values, types and places, and modes.

    Args:
        model: a module, or a dataclass that holds tensors; of anything else nothing is known.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = content_of(layer)
        >>> with torch.no_grad():
        ...     _ = layer.weight.add_(1)
        >>> content_of(layer) == before
        False
    """
    modes = tuple(module.training for module in model.modules()) if isinstance(model, nn.Module) else ()
    facts = (
        (name, tuple(tensor.shape), tensor.dtype, tensor.device, checksum(tensor)) for name, tensor in _tensors(model)
    )
    return modes, tuple(facts)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's state, whatever device it lies on."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(model, nn.Module):
        yield from model.named_parameters(remove_duplicate=False)
        yield from model.named_buffers(remove_duplicate=False)
    elif dataclasses.is_dataclass(model):
        values = ((entry.name, getattr(model, entry.name)) for entry in dataclasses.fields(model))
        yield from ((name, value) for name, value in values if isinstance(value, Tensor))
