"""Threads that each run small convolutions on one core: on few cores faster than one thread team for all.

A flow's convolutions have few channels, so a team of threads spends its time waiting for itself; batches divide
freely, so each core takes its own images instead. Torch releases Python's lock inside its kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def one_core_each(workers: int) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], list[R]]]:
    """A `map` over `workers` threads of one core each; with one worker, a plain loop on all cores given before.

    Results come in the order of the arguments. An exception in one call is raised after the others ended.

    Args:
        workers: how many calls run side by side.
    """
    if workers <= 1:
        yield lambda function, items: [function(item) for item in items]
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1)) as pool:
        try:
            yield lambda function, items: list(pool.map(function, items))
        finally:
            torch.set_num_threads(before)
