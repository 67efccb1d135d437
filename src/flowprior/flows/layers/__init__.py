"""Bijections that flows are made of: each is `forward(x) -> (z, log_det)` and `inverse(z) -> (x, log_det)`."""

from flowprior.flows.layers.actnorm import ActNorm
from flowprior.flows.layers.bijection import Bijection, Chain
from flowprior.flows.layers.coupling import Coupling, additive, sigmoid_affine, tanh_affine
from flowprior.flows.layers.haar import HaarSqueeze
from flowprior.flows.layers.mixing import Mixing
from flowprior.flows.layers.squeeze import Squeeze

__all__ = [
    "ActNorm",
    "Bijection",
    "Chain",
    "Coupling",
    "HaarSqueeze",
    "Mixing",
    "Squeeze",
    "additive",
    "sigmoid_affine",
    "tanh_affine",
]
