"""The machine: what it is, and the fastest that torch multiplies on it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.flops import FLOPS, multiply_adds

_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "asimd", "sve")
#: What changes the speed of torch's memory and threads, and is set by the workflow for its own jobs.
_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "OMP_WAIT_POLICY", "LD_PRELOAD")
_CHANNELS = (16, 48, 64, 128, 256)
_SIDE, _BATCH = 32, 32
_PASSES = 3


def machine() -> dict[str, Any]:
    """Everything about the machine that a figure depends on; takes a few seconds."""
    facts = {
        "cpu": _field("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "vector_flags": [flag for flag in _FLAGS if flag in (_field("flags") or _field("Features")).split()],
        "torch": torch.__version__,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "kernel_lanes": kernel_lanes(),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "load_before": [round(value, 2) for value in os.getloadavg()],
    }
    # In turns, so that a moment in which the machine does something else lowers neither ceiling alone.
    one, every, convolution = [], [], []
    for _ in range(_PASSES):
        one.append(_matmul(1))
        every.append(_matmul(torch.get_num_threads()))
        convolution.append(_convolution())
    best, shape = max(convolution)
    return {
        **facts,
        "matmul_gflops": {"one_thread": max(one), "all_threads": max(every)},
        "best_convolution": {"gflops": best, "shape": shape},
    }


def kernel_lanes() -> int | None:
    """Images that the compiled kernel takes side by side; None where there is no kernel and torch runs all flows."""
    from flowprior.models.flows.evaluators import compiled

    library = compiled.kernel()
    return None if library is None else int(library.lanes())


def _field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def _matmul(threads: int, size: int = 1024) -> float:
    """GFLOP/s of a float32 product of two `size` x `size` matrices, the best of many."""
    a, b, out = torch.rand(size, size), torch.rand(size, size), torch.empty(size, size)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        best = _quickest(lambda: torch.mm(a, b, out=out), 0.3)
    finally:
        torch.set_num_threads(before)
    return round(FLOPS * size**3 / best / 1e9, 1)


@torch.no_grad()
def _convolution() -> tuple[float, str]:
    """GFLOP/s of torch's fastest 3x3 convolution among some shapes, and which that was."""
    found = []
    for channels in _CHANNELS:
        for layout in (torch.contiguous_format, torch.channels_last):
            layer = nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=layout)  # type: ignore[call-overload]
            x = torch.rand(_BATCH, channels, _SIDE, _SIDE).contiguous(memory_format=layout)
            speed = FLOPS * multiply_adds(layer, x).useful / _quickest(_call(layer, x), 0.05) / 1e9
            shape = f"{channels} to {channels} channels, {_BATCH} maps of {_SIDE}x{_SIDE}"
            found.append((round(speed, 1), f"{shape}, {str(layout).removeprefix('torch.')}"))
    return max(found)


def _call(layer: nn.Module, x: Tensor) -> Callable[[], Any]:
    return lambda: layer(x)


def _quickest(function: Callable[[], Any], seconds: float) -> float:
    """Seconds of the quickest of many calls."""
    function()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best
