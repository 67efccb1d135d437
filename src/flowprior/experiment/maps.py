"""Beside the pictures of a job: how sure its method is of each value, and a few draws of each image.

One archive a job. That of a method which gives neither is empty: which files a job leaves is known before it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flowprior.images.quantise import to_pixels
from flowprior.solvers.base import Result

#: Draws that are kept of each image; metrics are of all of them.
SAMPLES = 4


@dataclass(frozen=True)
class Maps:
    """Standard deviations and draws of a job's images, by the number of the setting; absent where there are none.

    Attributes:
        std: float16 (N, H, W, C), on values in [0, 1].
        samples: uint8 (N, S, H, W, C), at most `SAMPLES` of each image.
    """

    std: Mapping[int, np.ndarray] = field(default_factory=dict)
    samples: Mapping[int, np.ndarray] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write as .npz."""
        arrays = {
            f"{kind}_{point}": array for kind in ("std", "samples") for point, array in getattr(self, kind).items()
        }
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path, point: int) -> Maps:
        """What was written of one setting; nothing where the file is missing."""
        if not path.exists():
            return cls()
        with np.load(path, allow_pickle=False) as arrays:
            found = {kind: f"{kind}_{point}" for kind in ("std", "samples")}
            return cls(**{kind: {point: arrays[name]} for kind, name in found.items() if name in arrays})


class Collector:
    """Puts the parts of a job's results together, which come in batches.

    Args:
        count: images of the job.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._arrays: dict[str, dict[int, np.ndarray]] = {"std": {}, "samples": {}}

    def add(self, point: int, images: slice, result: Result) -> None:
        """Keep what a result says of some images at one setting."""
        if result.std is not None:
            self._put("std", point, images, result.std.permute(0, 2, 3, 1).cpu().numpy().astype(np.float16))
        if result.samples is not None:
            kept = result.samples[:, :SAMPLES]
            pixels = to_pixels(kept.flatten(0, 1))
            self._put("samples", point, images, pixels.reshape(*kept.shape[:2], *pixels.shape[1:]))

    def maps(self) -> Maps:
        """All that was kept."""
        return Maps(**self._arrays)

    def _put(self, kind: str, point: int, images: slice, array: np.ndarray) -> None:
        held = self._arrays[kind]
        if point not in held:
            held[point] = np.zeros((self._count, *array.shape[1:]), array.dtype)
        held[point][images] = array
