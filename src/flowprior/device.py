"""Where a job computes."""

from __future__ import annotations

import torch

from flowprior.errors import FlowpriorError


def device_for(gpus: int) -> torch.device:
    """The device of a job: a GPU when it asks for one, else the CPU.

    Args:
        gpus: how many GPUs the job was given.

    Raises:
        FlowpriorError: torch sees fewer. A job that asked for a GPU never computes elsewhere without a word.
    """
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus > seen:
        why = "this torch is built for CPUs alone" if torch.version.cuda is None else "is it visible to this job?"
        raise FlowpriorError(
            f"{gpus} GPU{'s' if gpus > 1 else ''} asked for, and torch sees {seen} ({why}); "
            "give the job what it asks for, or ask for the CPU: --set-resources train:gpu=0 reconstruct:gpu=0"
        )
    return torch.device("cuda" if gpus else "cpu")


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
