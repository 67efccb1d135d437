"""BM3D for colour images (Dabov et al. 2007), by its authors' package."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.operators.base import Operator
from flowprior.operators.identity import Identity
from flowprior.registry import NoiseStd, SettingsModel
from flowprior.solvers.base import Context, Result, Solver, closed_form_result

#: The package reads beyond its buffers on images smaller than two of its 8x8 blocks.
_SMALLEST = 16
#: Luminance and the two differences of colour that the package filters (its 'opp'), each divided by its range.
_OPPONENT = np.array([[1 / 3, 1 / 3, 1 / 3], [0.5, 0, -0.5], [0.25, -0.5, 0.25]])
_FLAT = 1e-9


class BM3D(Solver):
    """Collaborative filtering of similar blocks; denoising only, no training.

    The package `bm3d` is free for non-commercial use only and therefore optional.
    """

    name = "bm3d"
    needs = None
    baseline = True
    requires: ClassVar[Mapping[str, str]] = {
        "bm3d": "it is free for non-commercial use only, and is installed by: pip install bm3d"
    }

    class Settings(SettingsModel):
        """Settings of `bm3d`."""

        noise_std: NoiseStd = Field(
            25 / 255, gt=0, description="assumed noise, on values in [0, 1]; Chávez 2021: 25/255"
        )

        clip: bool = Field(
            False,
            description="clip the measurement to [0, 1] first, which biases it: the published row of Asim et al. 2020",
        )

    @classmethod
    def skip(cls, operator: Operator) -> str | None:
        """It denoises only, images of at least two blocks a side."""
        if not isinstance(operator, Identity):
            return f"bm3d denoises only, got the operator {type(operator).__name__}; leave out its other tasks"
        _, height, width = operator.shape
        if min(height, width) < _SMALLEST:
            return f"bm3d needs images of at least {_SMALLEST}x{_SMALLEST} pixels, got {height}x{width}; leave it out"
        return None

    def run(self, operator: Operator, y: Tensor, prior: None, context: Context) -> Result:
        """Filter image by image.

        Raises:
            FlowpriorError: the package is missing.
        """
        try:
            from bm3d import bm3d, bm3d_rgb
        except ImportError:
            raise FlowpriorError(
                "the package bm3d is not installed; pip install bm3d (non-commercial use only)"
            ) from None
        started = time.perf_counter()
        images = []
        noisy = y.clamp(0, 1) if self.settings.clip else y
        for done, image in enumerate(noisy.detach().cpu().permute(0, 2, 3, 1).double().numpy()):
            if image.shape[2] == 3 and _coloured(image):
                clean = bm3d_rgb(image, self.settings.noise_std)
            else:
                channels = [bm3d(channel, self.settings.noise_std) for channel in image.transpose(2, 0, 1)]
                clean = np.stack([channel.reshape(image.shape[:2]) for channel in channels], axis=2)
            images.append(torch.from_numpy(clean).permute(2, 0, 1))
            if context.progress:
                context.progress(done + 1, len(y))
        return closed_form_result(torch.stack(images).to(y), started, context)


def _coloured(image: np.ndarray) -> bool:
    """Whether an image (H, W, 3) varies in luminance and in both differences of colour.

    Where one is flat, as in a grey or an empty image, the package would divide by zero.
    """
    channels = image.reshape(-1, 3) @ _OPPONENT.T
    return bool((np.ptp(channels, axis=0) > _FLAT).all())
