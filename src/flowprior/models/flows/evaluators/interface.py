"""What Python knows of the kernel: numbers, structs and functions, all read from the header that the compiler reads."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "kernel"
HEADER = FOLDER / "flow.h"


@functools.cache
def interface() -> Any:
    """The header as `cffi` takes it: by it structs are made, and libraries opened; read once per process.

    Example:
        >>> interface().new("Conv *", {"cin": 3}).cin
        3
    """
    # Not with the package: most of what imports that never asks for a kernel.
    from cffi import FFI

    ffi = FFI()
    lines = HEADER.read_text().splitlines()
    ffi.cdef("\n".join(line for line in lines if not line.startswith("#")))
    return ffi


def address(values: Any) -> Any:
    """Where a tensor's values begin, as the kernel takes it; of None, nowhere."""
    ffi = interface()
    return ffi.NULL if values is None else ffi.cast("void *", values.data_ptr())
