"""The kernel for fixed flows, built by the machine's own C compiler when first needed and kept in the user's cache."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowprior.models.flows.evaluators import private
from flowprior.models.flows.evaluators.interface import FOLDER, interface

SOURCE = FOLDER / "passes.c"
#: No reassociation: sums are the same on every machine of one vector width.
FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=fast", "-Wno-psabi", "-shared", "-fPIC")
#: Whatever this machine's processor can do. The names that gcc and clang have in common.
NATIVE = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
#: Set to 0 to run flows by torch alone.
SWITCH = "FLOWPRIOR_COMPILE"
#: More flags, after ours.
MORE_FLAGS = "FLOWPRIOR_CFLAGS"


@functools.cache
def kernel() -> Any | None:
    """The kernel, or None where there is no C compiler or it is switched off; asked once per process.

    The compiler is `CC` with what stands behind it, else `cc`, `gcc` or `clang`.
    """
    command = (
        shlex.split(os.environ.get("CC", "")) or [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    )
    if not command or os.environ.get(SWITCH) == "0" or sys.platform == "win32":
        return None
    try:
        return built(command, shlex.split(os.environ.get(MORE_FLAGS, "")))
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", "") or error
        print(f"flowprior: the kernel for fixed flows was not built ({detail}); torch runs them", file=sys.stderr)
        return None


def built(compiler: Sequence[str], more_flags: Sequence[str] = ()) -> Any:
    """The kernel as a compiler makes it: from the user's cache, or built and kept there.

    Where the cache is not this user's alone nothing is loaded from it, and the kernel is built for this process.

    Args:
        compiler: its command.
        more_flags: after the usual ones.

    Returns:
        The library: functions and numbers of `flow.h` by their names.

    Raises:
        OSError: there is no such compiler, or no folder to build in.
        subprocess.CalledProcessError: it failed.
    """
    command = (*compiler, *FLAGS, NATIVE, *more_flags)
    name = f"flow-{hashlib.sha256(repr(_facts(command)).encode()).hexdigest()[:16]}.so"
    try:
        with private.cached() as folder:
            return _from(folder, name, command)
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody knows where this user's home is
        refused = error
    with private.temporary() as folder:
        library = _from(folder, name, command)
    print(f"flowprior: {refused}; the kernel was built for this process alone", file=sys.stderr)
    return library


def _from(folder: private.Folder, name: str, command: Sequence[str]) -> Any:
    """The library of this name in a folder; built if it is missing, not ours, or damaged."""
    if folder.has(name):
        try:
            return interface().dlopen(folder.place(name))
        except OSError:
            pass
    # Beside it first: several processes may build at once, and a half-written library must never be loaded.
    part = f"{name}.{secrets.token_hex(8)}.part"
    try:
        building = [*command, "-o", str(folder.path / part), str(SOURCE), "-lpthread"]
        subprocess.run(building, check=True, capture_output=True, text=True)
        folder.adopt(part, name)
    finally:
        folder.remove(part)
    return interface().dlopen(folder.place(name))


def _facts(command: Sequence[str]) -> tuple[object, ...]:
    """What a library depends on: the source, the compiler and its flags, the processor."""
    sources = tuple(source.read_text() for source in sorted(FOLDER.glob("*.[ch]")))
    # `cc` may be another compiler tomorrow.
    program = shutil.which(command[0])
    identity: tuple[object, ...] = ()
    if program:
        found = Path(program).resolve()
        identity = (str(found), found.stat().st_size, found.stat().st_mtime_ns)
    return (*sources, *command, *identity, platform.machine(), _features())


def _features() -> str:
    """What the processor can do: one home folder may serve machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
