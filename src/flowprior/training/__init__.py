"""Training a flow by maximum likelihood, with exact resume."""

from flowprior.training.loop import Trained, train

__all__ = ["Trained", "train"]
