"""The default flow: Glow steps on a Haar wavelet pyramid, small enough for two CPU cores."""

from __future__ import annotations

from pydantic import Field

from flowprior.models.flows.base import Flow, check_divisible
from flowprior.models.flows.coupling_networks import NetworkDesign
from flowprior.models.flows.glow import glow_step
from flowprior.models.flows.layers import Chain, HaarSqueeze, tanh_affine


class HaarGlow(Flow):
    """Levels of: orthonormal Haar squeeze, Glow steps, and the first quarter of the channels carried on.

    Carrying a quarter instead of Glow's half keeps 4C channels at every level, so that the cost falls by four
    from level to level; the wavelet gives the coarse levels an averaged image to work on.
    """

    name = "haar_glow"
    low, high = -1.0, 1.0

    class Settings(Flow.Settings):
        """Settings of `haar_glow`."""

        levels: int = Field(4, ge=1, description="how often the image is halved")
        steps: int = Field(4, ge=1, description="flow steps per level")
        hidden: int = Field(64, ge=1, description="channels inside the coupling networks")

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        check_divisible(self.name, shape, settings.levels)
        channels, design = 4 * shape[0], NetworkDesign(settings.hidden)
        levels = []
        for _ in range(settings.levels):
            steps = [glow_step(channels, design, tanh_affine) for _ in range(settings.steps)]
            levels.append(Chain([HaarSqueeze(), *(part for step in steps for part in step)]))
        super().__init__(shape, settings, levels, [shape[0]] * (settings.levels - 1))
