"""Tensors in a file, as safetensors: written whole or not at all, never unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
