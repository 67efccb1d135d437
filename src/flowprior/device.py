"""Where a job computes."""

from __future__ import annotations

import torch


def device_for(gpus: int) -> torch.device:
    """The device of a job: a GPU when the job was given one and torch sees it, else the CPU."""
    return torch.device("cuda" if gpus and torch.cuda.is_available() else "cpu")


def use_tensor_cores(device: torch.device) -> None:
    """On a GPU, let the convolutions of networks round their inputs to TF32 (10 bits of mantissa).

    Matrix products stay in float32: they carry the values themselves (affine steps, covariances), where what one
    direction rounds away the other does not find again. A network's answer is the same both ways, however rounded.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_tf32 = False


def use_threads(count: int) -> None:
    """Keep torch to the cores that the job was given, so that jobs side by side do not slow each other down."""
    torch.set_num_threads(max(1, count))
