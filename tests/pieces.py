"""Small instances of every registered piece, so that each mathematical property is tested on all of them."""

import numpy as np
import torch

from flowprior import models, operators
from flowprior.models import flows
from flowprior.models.flows import glow
from flowprior.models.flows.layers import (
    ActNorm,
    Chain,
    Coupling,
    HaarSqueeze,
    Mixing,
    SigmoidAffine,
    Squeeze,
    additive,
    sigmoid_affine,
    tanh_affine,
)

#: Settings that make a registered flow small; a flow without an entry is built with its defaults.
SMALL_FLOWS = {
    "haar_glow": {"levels": 2, "steps": 2, "hidden": 6},
    "glow": {"levels": 2, "steps": 2, "hidden": 6},
    "chavez": {"steps": 1, "hidden": 6},
}

#: Glow as Asim et al. released it, and with every measure for stability.
ASIM2020 = {**glow.ASIM2020, "hidden": 6}
STABLE = {
    "hidden_norm": "actnorm",
    "coupling_bias": 0.1,
    "norm_epsilon": 0.05,
    "clip": 1.5,
    "scale_clip": 0.4,
}
#: What is tested of every flow is tested of these: (flow, settings).
FLOW_KINDS = {
    **{name: (name, {}) for name in flows.names()},
    "glow as of Asim et al.": ("glow", ASIM2020),
    "glow with a last step": ("glow", {"last_steps": 1, "levels": 3}),
    "glow, bounded": ("glow", STABLE),
}

#: The same of models of other kinds, and what they are trained on: side of the images, and the task if there is one.
SMALL_MODELS = {
    **SMALL_FLOWS,
    "dcgan": {"latent": 5, "width": 4},
    "pggan": {"latent": 6, "width": 8},
    "regressor": {"width": 4},
    "unfolded": {"folds": 2, "prox": "haar_glow", "prox_settings": {"levels": 2, "steps": 1, "hidden": 4}},
    "denoiser": {"width": 4},
}
#: Capability -> the model that solvers which need it are tested with, where a flow has it not.
MODEL_WITH = {"Solves": "regressor", "Unfolds": "unfolded"}
MODEL_SIDES = {"dcgan": 16, "pggan": 16}

#: name -> (layer for 4 channels at 4x4, in float64)
LAYERS = {
    "actnorm": lambda: ActNorm(4),
    "actnorm_bounded": lambda: ActNorm(4, 0.3),
    "mixing": lambda: Mixing(4),
    "squeeze": Squeeze,
    "haar": HaarSqueeze,
    "affine_sigmoid": lambda: Coupling(torch.nn.Conv2d(2, 4, 3, padding=1), sigmoid_affine),
    "affine_bounded": lambda: Coupling(torch.nn.Conv2d(2, 4, 3, padding=1), SigmoidAffine(0.2, 0.5)),
    "affine_tanh_swapped": lambda: Coupling(torch.nn.Conv2d(2, 4, 3, padding=1), tanh_affine, swap=True),
    "additive": lambda: Coupling(torch.nn.Conv2d(2, 2, 3, padding=1), additive),
    "chain": lambda: Chain([ActNorm(4), Mixing(4), HaarSqueeze()]),
}


def shaken(module, scale=0.1):
    """The module with every parameter moved at random: fresh flows are too simple to test anything."""
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=source, dtype=parameter.dtype)
    return module


def small_flow(name, shape=(3, 8, 8), dtype=torch.float64, scale=0.1, **settings):
    """A registered flow, small, with the same random weights each time."""
    torch.manual_seed(0)
    return shaken(flows.build(name, shape, **{**SMALL_FLOWS.get(name, {}), **settings}).to(dtype), scale).eval()


def small_model(name, seed=0, **settings):
    """A registered model that is trained, small, with fresh weights."""
    torch.manual_seed(seed)
    side = MODEL_SIDES.get(name, 8)
    return models.build(name, (3, side, side), **{**SMALL_MODELS.get(name, {}), **settings})


#: Settings that make a small instance of an operator: it is tested with each of them, and used with the first.
OPERATOR_SETTINGS = {
    "gaussian_blur": [
        {"std": 0.6},
        {"std": 0.8, "border": "reflect"},
        {"std": 0.7, "size": 3, "border": "valid"},
        {"std": 0.5, "size": 17, "border": "reflect"},
        {"std": 3.0, "size": 1},
    ],
    "box_blur": [
        *({"size": size} for size in (3, 1, 5, 7)),
        *({"size": size, "border": "valid"} for size in (3, 1, 5)),
    ],
    "block_mean": [{"factor": factor} for factor in (2, 1, 4)],
    "center_mask": [{}, {"start": 0.5, "stop": 0.5}, {"start": 0.0, "stop": 0.6}, {"start": 0.0, "stop": 1.0}],
    "random_mask": [{}, {"missing": 0.0}, {"missing": 1.0}, {"missing": 0.3, "seed": 4}],
    "half_mask": [{}, {"lost": "bottom", "missing": 0.3}, {"lost": "right", "missing": 1.0}, {"lost": "top"}],
    "gaussian_sensing": [
        {"measurements": 12},
        {"measurements": 1},
        {"measurements": 35, "seed": 5},
        {"measurements": 20, "storage": "bfloat16"},
    ],
    "dct_sensing": [{"measurements": 12}, {"measurements": 1}, {"measurements": 35, "seed": 5}],
}
#: Shapes of images, not square, in colour and grey; other ones where an operator does not take these.
_SHAPES = ((3, 8, 6), (1, 5, 7))
_OWN_SHAPES = {"block_mean": ((3, 8, 4), (1, 4, 12))}
#: (operator, shape of its images, settings).
OPERATOR_CASES = [
    (name, shape, settings)
    for name in operators.names()
    for shape in _OWN_SHAPES.get(name, _SHAPES)
    for settings in OPERATOR_SETTINGS.get(name, [{}])
]


def small_operator(name, shape=(3, 8, 8), **settings):
    """A registered operator, small."""
    return operators.build(name, shape, **(settings or OPERATOR_SETTINGS.get(name, [{}])[0]))


FLOW_SHAPE = (3, 8, 8)
#: (flow, shape of its images, settings) for code that runs flows in another way: every flow; maps on which the kernel
#: uses each of its algorithms, square and not; channels that fill no tile; an odd number of pixels and of tiles.
FLOW_CASES = [
    *((name, FLOW_SHAPE, {}) for name in flows.names()),
    ("glow", FLOW_SHAPE, {"coupling": "additive"}),
    ("glow", FLOW_SHAPE, ASIM2020),
    ("glow", FLOW_SHAPE, {"coupling_bias": 0.1, "norm_epsilon": 0.1, "scale_clip": 0.1}),
    ("chavez", (3, 32, 32), {"steps": 2, "hidden": 10, "scale": 0.03}),
    ("haar_glow", (3, 16, 8), {"hidden": 13}),
    ("haar_glow", (1, 16, 16), {"levels": 1, "steps": 1, "hidden": 50}),
    ("haar_glow", (3, 20, 24), {"levels": 1, "hidden": 13}),
    ("glow", (3, 36, 20), {"levels": 1, "hidden": 7}),
]

#: What the kernel does not run, and torch's folded steps do.
TORCH_CASES = [*FLOW_CASES, ("glow", FLOW_SHAPE, STABLE), ("glow", FLOW_SHAPE, {"clip": 0.2})]


def pictures(count=40, seed=0, side=8):
    """Smooth little pictures, uint8 (N, side, side, 3): something to learn."""
    source = np.random.default_rng(seed)
    base = source.integers(60, 200, (count, 1, 1, 3)) + source.normal(0, 20, (count, 4, 4, 1)).repeat(
        side // 4, 1
    ).repeat(side // 4, 2)
    return np.clip(base + source.normal(0, 3, (count, side, side, 3)), 0, 255).astype(np.uint8)
