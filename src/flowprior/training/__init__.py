"""Training any model: one loop, with exact resume; what is learned and how is the model's own (`Trainable`)."""

from flowprior.training.loop import Trained, train
from flowprior.training.trainable import Task, Trainable

__all__ = ["Task", "Trainable", "Trained", "train"]
