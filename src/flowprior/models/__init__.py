"""What is learned or fitted and then asked. Nothing here knows of solvers.

What a model can do is a protocol of `flowprior.models.capabilities`; how it learns stands in the class that it names
by `trained_by` (`flowprior.training.Trainable`). To add one: write a file, and add its line below; a flow's line
stands in `flowprior.models.flows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowprior.models import flows
from flowprior.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

#: Made of the training images at once: no settings, no training.
FITTED = {
    "gaussian": "flowprior.models.gaussian:Gaussian",
}
#: Trained on images.
GENERATORS = {
    "dcgan": "flowprior.models.generators.dcgan:DCGAN",
}
#: Trained on images and their measurements, once for each task.
FOR_ONE_TASK: dict[str, str] = {}

#: Models that an experiment trains, of every kind.
TRAINED: Registry[Any] = Registry("model", {**flows.REGISTRY.places, **GENERATORS, **FOR_ONE_TASK})
#: All of them.
REGISTRY: Registry[Any] = Registry("model", {**TRAINED.places, **FITTED})


def names() -> tuple[str, ...]:
    """Every registered model, flows first."""
    return REGISTRY.names()


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
    return TRAINED.get(name)(shape, TRAINED.settings(name, settings))


def load(path: str | Path) -> Any:
    """A trained model of any kind, in evaluation mode on the CPU; see `flowprior.models.checkpoint`.

    Args:
        path: a checkpoint folder.

    Raises:
        FlowpriorError: there is no such model, or it is damaged.
    """
    from flowprior.models.checkpoint import load_model

    return load_model(path)
