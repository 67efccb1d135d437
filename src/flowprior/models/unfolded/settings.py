"""What an unfolded algorithm may be asked to be."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from flowprior.errors import FlowpriorError
from flowprior.registry import SettingsModel


class UnfoldedSettings(SettingsModel):
    """Settings of `unfolded`."""

    folds: int = Field(4, ge=1, description="K: data steps, each followed by a proximal map")
    prox: str = Field("haar_glow", description="proximal map: a registered flow, or a network: unet, resnet")
    prox_settings: dict[str, Any] = Field(default_factory=dict, description="the flow's or network's own settings")
    tied: bool = Field(False, description="one proximal map for all folds; else each fold has its own")
    trains: Literal["all", "steps"] = Field(
        "all",
        description="what is learned: everything, or only step sizes and strengths, with the proximal map as it "
        "was trained before (plug-and-play; one map for all folds)",
    )
    last_shrinks: bool = Field(
        False, description="flows: whether the last fold shrinks; if not (Wei et al. 2022) its flow cancels"
    )
    shrinkage: Literal["normal", "laplace"] = Field(
        "normal", description="flows: density of the latents that the shrinkage is the proximal map of"
    )
    shrinkage_by: Literal["fold", "level"] = Field(
        "fold", description="flows: one strength for each fold, as in the paper, or for each level of each fold"
    )
    start: Literal["zero_latent", "zero", "pseudo_inverse"] | None = Field(
        None, description="first iterate: G_0(0), the image zero, or A_dagger y; null: G_0(0) of flows, else zero"
    )
    data_step: Literal["gradient", "pseudo_inverse"] = Field(
        "gradient", description="along A_adjoint(A x - y), or A_dagger(A x - y), which no bad condition slows"
    )
    step_size: float = Field(
        0.7,
        gt=0,
        description="first mu of every fold, in units of 1 / ||A||^2; with 1 no fold of denoising sees more"
        " than the measurement, and none of them learns",
    )
    strength: float | None = Field(
        None,
        gt=0,
        description="first strength of every fold: lambda of flows, the noise level told to networks; null: 1 of "
        "flows (far from images a flow with less is too steep to learn from), .1 of networks",
    )
    step_rate: float = Field(
        100.0, gt=0, description="how many times faster than weights the logarithms of mu and strengths move"
    )
    likelihood: float = Field(
        0.0,
        ge=0,
        description="flows: weight of the mean bits per dimension of the folds' flows on true images, in the "
        "training's loss: the paper's future work",
    )
    memory: Literal["plain", "reversible"] = Field(
        "plain", description="reversible: what a gradient needs is computed again, so memory stays with depth"
    )

    def refuse_what_flows_alone_understand(self) -> None:
        """Of a network as proximal map.

        Raises:
            FlowpriorError: naming the first such setting.
        """
        odd = {
            "start": self.start == "zero_latent",
            "last_shrinks": self.last_shrinks,
            "shrinkage": self.shrinkage == "laplace",
            "shrinkage_by": self.shrinkage_by == "level",
            "likelihood": self.likelihood > 0,
        }
        if name := next((name for name, wrong in odd.items() if wrong), None):
            raise FlowpriorError(
                f"{name} {getattr(self, name)!r} is for flows, and prox '{self.prox}' is a network; leave it out"
            )
