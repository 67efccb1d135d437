"""Training that begins with the weights of another model."""

from __future__ import annotations

from typing import Any

from flowprior.errors import FlowpriorError


def begin_with(model: Any, trained: Any, digest: str) -> None:
    """Give a fresh model the weights of a trained one, as its class says how.

    Args:
        model: its class has `begin_with(trained, digest)`.
        trained: the other.
        digest: of the other's weights (`flowprior.models.weights.weights_digest`).

    Raises:
        FlowpriorError: it begins with no other, or not with one of that kind.
    """
    if not hasattr(model, "begin_with"):
        raise FlowpriorError(f"model '{model.name}' begins with no other; leave 'begin' out")
    model.begin_with(trained, digest)
