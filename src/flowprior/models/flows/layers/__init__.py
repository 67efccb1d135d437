"""Bijections that flows are made of: each is `forward(x) -> (z, log_det)` and `inverse(z) -> (x, log_det)`."""

from flowprior.models.flows.layers.actnorm import ActNorm
from flowprior.models.flows.layers.bijection import Bijection, Chain
from flowprior.models.flows.layers.coupling import Coupling, SigmoidAffine, additive, sigmoid_affine, tanh_affine
from flowprior.models.flows.layers.haar import HaarSqueeze
from flowprior.models.flows.layers.mixing import Mixing
from flowprior.models.flows.layers.squeeze import Squeeze

__all__ = [
    "ActNorm",
    "Bijection",
    "Chain",
    "Coupling",
    "HaarSqueeze",
    "Mixing",
    "SigmoidAffine",
    "Squeeze",
    "additive",
    "sigmoid_affine",
    "tanh_affine",
]
