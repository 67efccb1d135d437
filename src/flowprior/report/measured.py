"""What was measured, as a reader can see it: the measurement where it is a picture, else what it says of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flowprior.operators.task import TaskSettings

#: Heads of the column: a measurement that is a picture, and the least-norm image of one that is none.
PICTURE, LEAST_NORM = "measurement", "A†y"


def measured_pictures(task: TaskSettings, y: np.ndarray, side: tuple[int, int, int]) -> tuple[str, list[np.ndarray]]:
    """What to call some measurements, and a picture of each.

    Numbers without height and width show nothing by themselves: in their place stands A_dagger y, the least-norm
    image among those that fit them best, which is what is known of an image without any prior.

    Args:
        task: whose measurements.
        y: measurements (N, ...).
        side: (C, H, W) of the images.

    Returns:
        The head, and pictures uint8 (h, w, 3).

    Example:
        >>> from flowprior.operators.task import TaskSettings
        >>> head, (shown,) = measured_pictures(TaskSettings(operator="identity"), np.ones((1, 3, 2, 2)), (3, 2, 2))
        >>> head, shown.shape
        ('measurement', (2, 2, 3))
    """
    if _is_picture(y.shape[1:]):
        return PICTURE, [picture(one) for one in y]
    import torch

    from flowprior import operators

    operator = operators.build(task.operator, side, **task.settings)
    return LEAST_NORM, [picture(one) for one in operator.A_dagger(torch.from_numpy(np.array(y))).numpy()]


def picture(y: np.ndarray) -> np.ndarray:
    """Values of shape (C, h, w), C of 1 or 3, as a picture: clipped to [0, 1], one channel as grey.

    Returns:
        uint8, shape (h, w, 3).
    """
    shown = np.clip(np.nan_to_num(np.asarray(y, dtype=np.float32)), 0, 1).transpose(1, 2, 0)
    return np.round(np.broadcast_to(shown, (*shown.shape[:2], 3)) * 255).astype(np.uint8)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)
