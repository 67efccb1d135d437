"""The kernel for fixed flows, built by the machine's own C compiler when first needed and kept in the user's cache."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "kernel" / "passes.c"
#: No reassociation: sums are the same on every machine of one vector width.
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-ffp-contract=fast", "-Wno-psabi", "-shared", "-fPIC")
#: Set to 0 to run flows by torch alone.
SWITCH = "FLOWPRIOR_COMPILE"


class Conv(ctypes.Structure):
    """`Conv` of the kernel."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("cin", "cout", "kernel", "pad", "height", "width", "shuffle", "relu")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "adjoint", "points", "adjoint_points")),
        ("gradient", ctypes.c_int64),
    )


class Op(ctypes.Structure):
    """`Op` of the kernel."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", "channels", "height", "width", "haar", "rule", "swap")),
        *((name, ctypes.c_int32) for name in ("convs", "keep", "offset")),
        ("network", ctypes.POINTER(Conv)),
    )


class FlowStruct(ctypes.Structure):
    """`Flow` of the kernel."""

    _fields_ = (
        ("ops", ctypes.POINTER(Op)),
        *((name, ctypes.c_int32) for name in ("count", "channels", "height", "width", "dimensions")),
        *((name, ctypes.c_float) for name in ("low", "high", "log_det")),
        ("most_channels", ctypes.c_int32),
        ("widest", ctypes.c_int64),
    )


@functools.cache
def kernel() -> ctypes.CDLL | None:
    """The kernel, or None where there is no C compiler or it is switched off; asked once per process."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or os.environ.get(SWITCH) == "0" or sys.platform == "win32":
        return None
    try:
        library = ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", "") or error
        print(f"flowprior: the kernel for fixed flows was not built ({detail}); torch runs them", file=sys.stderr)
        return None
    library.saved_bytes.restype = ctypes.c_int64
    library.saved_bytes.argtypes = [ctypes.POINTER(FlowStruct), *[ctypes.c_int] * 2]
    library.write_weights.argtypes = [ctypes.POINTER(FlowStruct), ctypes.POINTER(ctypes.c_void_p)]
    library.scratch_bytes.restype = ctypes.c_int64
    library.scratch_bytes.argtypes = [ctypes.POINTER(FlowStruct), ctypes.c_int]
    library.run.argtypes = [ctypes.POINTER(FlowStruct), *[ctypes.c_int] * 4, *[ctypes.c_void_p] * 6]
    library.run.restype = library.learn.restype = library.write_weights.restype = None
    library.learn.argtypes = [ctypes.POINTER(FlowStruct), *[ctypes.c_int] * 2, *[ctypes.c_void_p] * 6]
    return library


def _built(compiler: str) -> Path:
    """Path of the shared library for this source, compiler and processor; built if it is not there."""
    sources = sorted(SOURCE.parent.glob("*.[ch]"))
    facts = (*(source.read_text() for source in sources), compiler, *FLAGS, platform.machine(), _features())
    name = f"flow-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.so"
    for folder in (Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flowprior", _temporary()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / name).exists():
                return folder / name
            # Beside it first: several processes may build at once, and a half-written library must never be loaded.
            with tempfile.NamedTemporaryFile(dir=folder, suffix=".so", delete=False) as part:
                pass
        except OSError:
            continue
        try:
            command = [compiler, *FLAGS, "-o", part.name, str(SOURCE), "-lpthread"]
            subprocess.run(command, check=True, capture_output=True, text=True)
            Path(part.name).replace(folder / name)
        finally:
            Path(part.name).unlink(missing_ok=True)
        return folder / name
    raise OSError("no folder to build in")


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"flowprior-{os.getuid()}"


def _features() -> str:
    """What the processor can do: one home folder may serve machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
