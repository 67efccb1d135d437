"""Tensors in a file, as safetensors, written whole or not at all and never unpickled; and tensors told apart."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
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


def checksum(tensor: Tensor) -> int:
    """Of every byte: what changes with any value, however it was changed. `_version` does not see an edit by `.data`.

    Example:
        >>> values = torch.eye(3)
        >>> before = checksum(values)
        >>> values.data[0, 1] = 1e-30
        >>> checksum(values) == before
        False
    """
    flat = tensor.detach().cpu().contiguous().flatten()
    return zlib.crc32(flat.view(torch.uint8).numpy().data) if flat.numel() else 0


def derived_once(holder: Any, name: str, tensors: Sequence[Tensor], derive: Callable[[], Any]) -> Any:
    """What is derived from tensors of a frozen object, kept with it and made again when they were changed in place.

    Args:
        holder: keeps it.
        name: of what is derived.
        tensors: what it is derived from.
        derive: makes it.
    """
    made, now = f"_derived_{name}", tuple(map(checksum, tensors))
    if made not in holder.__dict__ or holder.__dict__[made][0] != now:
        holder.__dict__[made] = now, derive()
    return holder.__dict__[made][1]
