"""Tensors in a file, as safetensors, written whole or not at all and never unpickled; and tensors told apart."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.files import readable, replacing


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """Write tensors, with the permissions that any new file of this user gets: `save_file` leaves it to its owner.

    Args:
        path: the file; its folder is made when missing.
        tensors: by name; each with memory of its own, contiguous.
        facts: texts that stand beside them in the file.
    """
    with replacing(path) as part:
        save_file(dict(tensors), part, facts)


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read tensors.

    Args:
        path: the file.
        remedy: what helps when it is damaged, for the message.

    Raises:
        FileNotFoundError: there is no such file.
        FlowpriorError: it can not be read, or is damaged.
    """
    with readable(path):
        # safetensors calls every file that it can not open missing.
        path.open("rb").close()
    try:
        return load_file(path)
    except SafetensorError as error:
        raise FlowpriorError(f"{path} is damaged ({error}); {remedy}") from None


def fingerprint(tensor: Tensor) -> Hashable:
    """What changes with any value of a tensor, however it was changed: `_version` does not see an edit by `.data`.

    Of a matrix, a checksum of the sums of its values' bits along both sides: of a large one in a fraction of the time
    that a checksum of every byte takes.

    Args:
        tensor: a vector or a matrix, of types of 4 or 8 bytes.

    Example:
        >>> values = torch.eye(3)
        >>> before = fingerprint(values)
        >>> values.data[0, 1] = 1e-30
        >>> fingerprint(values) == before
        False
    """
    words = tensor.detach().contiguous().view(torch.int32)
    sums = [words] if words.ndim == 1 else [words.sum(side, dtype=torch.int64) for side in (0, 1)]
    checksums = tuple(zlib.crc32(part.cpu().numpy().tobytes()) for part in sums)
    return tuple(tensor.shape), tensor.dtype, tensor.device, checksums


def derived_once(holder: Any, name: str, tensors: Sequence[Tensor], derive: Callable[[], Any]) -> Any:
    """What is derived from tensors of a frozen object, kept with it and made again when they were changed in place.

    Args:
        holder: keeps it.
        name: of what is derived.
        tensors: what it is derived from.
        derive: makes it.
    """
    made, now = f"_{name}", tuple(map(fingerprint, tensors))
    if made not in holder.__dict__ or holder.__dict__[made][0] != now:
        holder.__dict__[made] = now, derive()
    return holder.__dict__[made][1]
