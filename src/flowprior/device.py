"""Where a job computes."""

from __future__ import annotations

import torch


def device_for(gpus: int) -> torch.device:
    """The device of a job: a GPU when the job was given one and torch sees it, else the CPU."""
    return torch.device("cuda" if gpus and torch.cuda.is_available() else "cpu")


def use_threads(count: int) -> None:
    """Keep torch to the cores that the job was given, so that jobs side by side do not slow each other down."""
    torch.set_num_threads(max(1, count))
