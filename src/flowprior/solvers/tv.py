"""Total variation, by scikit-image's proximal map (Chambolle 2004)."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from flowprior.solvers.proximal import ProximalSettings, ProximalSolver


class TotalVariation(ProximalSolver):
    """min_x ||A x - y||^2 + alpha * TV(x), TV the sum over channels and pixels of the gradient's length."""

    name = "tv"

    class Settings(ProximalSettings):
        """Settings of `tv`."""

        alpha: float = Field(0.05, gt=0, description="weight of the total variation beside ||A x - y||^2")
        steps: int = Field(200, ge=1, description="steps with that weight, at most")
        rungs: int = Field(3, ge=0, description="heavier weights before it, each four times the next")
        inner_steps: int = Field(50, ge=1, description="of Chambolle's algorithm for one proximal map, at most")

    def prox(self, images: Tensor, weight: float) -> Tensor:
        """Denoised images, one by one."""
        from skimage.restoration import denoise_tv_chambolle

        many = {"weight": weight, "max_num_iter": self.settings.inner_steps, "eps": 1e-5, "channel_axis": 0}
        found = [denoise_tv_chambolle(image, **many) for image in images.detach().cpu().double().numpy()]
        return torch.from_numpy(np.stack(found)).to(images)

    def penalty(self, images: Tensor) -> Tensor:
        """Each channel's own total variation, summed: forward differences, none across the last row and column."""
        down = torch.nn.functional.pad(images.diff(dim=-2), (0, 0, 0, 1))
        right = torch.nn.functional.pad(images.diff(dim=-1), (0, 1))
        return (down.square() + right.square()).sqrt().flatten(1).sum(1)
