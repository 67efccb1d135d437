"""Every model by its name. To add one: its file, and its line here; a flow's line stands in `flows.registry`."""

from __future__ import annotations

from typing import Any

from flowprior.models.flows.registry import REGISTRY as FLOWS
from flowprior.registry import Registry, image_shape

#: Models that an experiment trains, of every kind.
TRAINED: Registry[Any] = Registry(
    "model",
    {
        **FLOWS.places,
        "dcgan": "flowprior.models.generators.dcgan:DCGAN",
        "pggan": "flowprior.models.generators.pggan:PGGAN",
        "regressor": "flowprior.models.regressor:Regressor",
        "unfolded": "flowprior.models.unfolded.model:Unfolded",
        "denoiser": "flowprior.models.denoiser:Denoiser",
    },
)
#: Made of the training images at once: no settings, no training.
FITTED: Registry[Any] = Registry(
    "model",
    {
        "gaussian": "flowprior.models.gaussian:Gaussian",
        "low_rank_gaussian": "flowprior.models.low_rank:LowRankGaussian",
    },
)
#: All of them, flows first.
REGISTRY: Registry[Any] = Registry("model", {**TRAINED.places, **FITTED.places})


def build(name: str, shape: tuple[int, int, int], **settings: Any) -> Any:
    """A model with fresh weights for images of one shape.

    Args:
        name: a registered model that is trained.
        shape: (C, H, W) of the images.
        **settings: the model's own settings; see its `Settings`.

    Raises:
        UnknownNameError: no such model, naming the nearest.
        FlowpriorError: a setting is misspelt or out of range, or the model cannot take images of this shape.
    """
    return TRAINED.get(name)(image_shape(shape), TRAINED.settings(name, settings))
