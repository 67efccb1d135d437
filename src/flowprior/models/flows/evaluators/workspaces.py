"""Memory that passes of the kernel use again: fresh megabytes cost more than what is done in them."""

from __future__ import annotations

import threading
from typing import NamedTuple

import torch
from torch import Tensor


class Workspace(NamedTuple):
    """Memory of a pass.

    Attributes:
        at_once: groups of images that one thread takes at a time.
        threads: how many threads have buffers in it.
        saved: what the pass keeps for its gradient, in bytes.
        scratch: the threads' buffers.
    """

    at_once: int
    threads: int
    saved: Tensor
    scratch: Tensor


class Workspaces:
    """Workspaces that nobody is in; several threads may take and leave at once.

    Args:
        most: rooms kept, the ones left last.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free: list[Workspace] = []
        self._lock = threading.Lock()

    def take(self, at_once: int, threads: int, saved: int, scratch: int) -> Workspace:
        """A workspace of this division and these sizes in bytes: one that was left, or a new one."""
        with self._lock:
            for number, workspace in enumerate(self._free):
                if workspace[:2] == (at_once, threads) and (len(workspace.saved), len(workspace.scratch)) == (
                    saved,
                    scratch,
                ):
                    return self._free.pop(number)
        return Workspace(at_once, threads, *(torch.empty(size, dtype=torch.uint8) for size in (saved, scratch)))

    def leave(self, workspace: Workspace) -> None:
        """Keep a workspace for the next pass."""
        with self._lock:
            self._free = [*self._free[-self._most + 1 :], workspace]
