"""What is learned or fitted and then asked. Nothing here knows of inverse problems.

What a model can do is a protocol of `flowprior.models.capabilities`. To add one: write a file with a class that has
some of them, and add its line below; a flow's line stands in `flowprior.models.flows`.
"""

from __future__ import annotations

from typing import Any

from flowprior.models import flows
from flowprior.registry import Registry

REGISTRY: Registry[Any] = Registry(
    "model",
    {
        **flows.REGISTRY.places,
        "gaussian": "flowprior.models.gaussian:Gaussian",
    },
)


def names() -> tuple[str, ...]:
    """Every registered model, flows first."""
    return REGISTRY.names()
