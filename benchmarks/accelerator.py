"""What of a GPU a figure depends on: which it is, how fast it multiplies, how much memory a search takes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.flops import FLOPS
from flowprior.errors import FlowpriorError

_SIZE, _SECONDS = 8192, 0.5


def device_named(name: str) -> torch.device:
    """The device of a run.

    Raises:
        FlowpriorError: torch sees no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise FlowpriorError(f"--device {name}: {str(error).splitlines()[0]}; use cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise FlowpriorError(f"--device {name}: this torch ({torch.__version__}) sees no GPU; use --device cpu")
    return device


def about(device: torch.device) -> dict[str, Any]:
    """Name, memory, versions, and GFLOP/s of a large matrix product in float32, TF32 and bf16."""
    facts = torch.cuda.get_device_properties(device)
    return {
        "name": facts.name,
        "memory_gb": round(facts.total_memory / 1e9, 1),
        "multiprocessors": facts.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "matmul_gflops": {
            "float32": _matmul(device, torch.float32, False),
            "tf32": _matmul(device, torch.float32, True),
            "bf16": _matmul(device, torch.bfloat16, False),
        },
    }


def peak_gigabytes(device: torch.device, function: Callable[[], Any]) -> float:
    """The most memory of a GPU that tensors took while a function ran, what was there before included."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) / 1e9


@contextmanager
def _tf32(allowed: bool) -> Any:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _matmul(device: torch.device, dtype: torch.dtype, tf32: bool) -> float:
    a, b = (torch.rand(_SIZE, _SIZE, device=device, dtype=dtype) for _ in range(2))
    with _tf32(tf32):
        torch.mm(a, b)
        torch.cuda.synchronize(device)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < _SECONDS:
            torch.mm(a, b)
            torch.cuda.synchronize(device)
            count += 1
        spent = time.perf_counter() - started
    return round(FLOPS * _SIZE**3 * count / spent / 1e9, 1)
