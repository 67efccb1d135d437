"""Norms over a batch: by it while a network learns, by what was seen in training when it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def by_batch(module: nn.Module) -> Iterator[None]:
    """Norms by the batch meanwhile, as in training; afterwards each image is its own problem again."""
    module.train()
    try:
        yield
    finally:
        module.eval()
