"""Training a flow by maximum likelihood, with exact resume."""

from flowprior.flows.training.loop import Trained, train

__all__ = ["Trained", "train"]
