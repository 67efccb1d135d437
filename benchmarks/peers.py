"""Other libraries: log p(x) with its gradient by the image, and a training step, of a Glow of the same shape."""

from __future__ import annotations

import copy
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.flops import per_image
from benchmarks.model import Options, Part, Row, Target, say
from benchmarks.other_glows import HIDDEN, LEVELS, PEERS, SHAPE, STEPS, Peer
from benchmarks.plain import maximise_likelihood
from benchmarks.problems import random_flow
from benchmarks.timing import Contender, Timing, interleaved, ratio
from benchmarks.training import Images, initialised, noise_pixels, real_loop
from flowprior.errors import FlowpriorError
from flowprior.models.evaluator import evaluator
from flowprior.models.flows.base import Flow

_BATCH, _AT_LEAST, _AGREEMENT = 32, 2.0, 1e-3
_OURS, _LAYERS = "flowprior", "flowprior, torch's layers"


def run(options: Options) -> Part:
    """Time flowprior against every library that is installed."""
    seconds, rounds = (0.4, 3) if options.quick else (3.0, 7)
    flow = random_flow("glow", SHAPE[1], levels=LEVELS, steps=STEPS, hidden=HIDDEN)
    pixels = noise_pixels(512, SHAPE[1])
    batches = Images(flow, pixels, _BATCH)
    missing, peers = [], {}
    for name, (package, build) in PEERS.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(Row("", name, note=f"not installed: pip install --no-deps {package}"))
        else:
            peers[f"{name} {version}"] = _ready(build(), batches)
    notes = [_shape_note(_OURS, tuple(flow.parameters()), flow.log_prob)]
    notes += [_shape_note(f"{name} ({peer.about})", peer.learned, peer.log_prob) for name, peer in peers.items()]
    say("  density")
    rows = _density_rows(flow, peers, batches.at(0), seconds, rounds)
    say("  training")
    rows += _training_rows(flow, peers, pixels, seconds, rounds)
    return Part("Other libraries: a Glow of the same shape", (*rows, *missing), tuple(notes))


def _density_rows(flow: Flow, peers: Mapping[str, Peer], x: Tensor, seconds: float, rounds: int) -> list[Row]:
    layers = copy.deepcopy(flow).requires_grad_(False)
    for peer in peers.values():
        peer.model.requires_grad_(False)

    def ours(steps: int) -> None:
        # Entered for its own turn alone: it takes torch's threads, and the others are to have all of them.
        with evaluator(flow) as asked:
            _gradients(asked.log_prob, x, steps)

    with evaluator(flow) as asked:
        _agree(asked.log_prob(x), layers.log_prob(x))
    entries = {_OURS: Contender(ours, len(x)), _LAYERS: _by_torch(layers.log_prob, x)}
    entries |= {name: _by_torch(peer.log_prob, x) for name, peer in peers.items()}
    timings = interleaved(entries, seconds, rounds)
    return _rows(f"log p and gradient by the image, fixed weights, batch {len(x)}", timings, peers)


def _training_rows(flow: Flow, peers: Mapping[str, Peer], pixels: np.ndarray, seconds: float, rounds: int) -> list[Row]:
    batches = Images(flow, pixels)
    count, layers = batches.batch, initialised(flow, batches)

    def ours(steps: int) -> float:
        return steps * count / real_loop(flow, pixels, steps)[0]

    entries = {_OURS: Contender(ours, count), _LAYERS: _steps(layers.log_prob, tuple(layers.parameters()), batches)}
    for name, peer in peers.items():
        for weight in peer.learned:
            weight.requires_grad_(True)
        entries[name] = _steps(peer.log_prob, peer.learned, batches)
    return _rows(f"a training step with Adam, batch {count}", interleaved(entries, seconds, rounds), peers)


def _rows(case: str, timings: Mapping[str, Timing], peers: Mapping[str, Peer]) -> list[Row]:
    rows = []
    for name, timing in timings.items():
        # It is flowprior that is to be faster: the ratio stands beside whom it is compared with.
        against = ratio(timings[_OURS], timing, "as fast: flowprior") if name != _OURS else None
        target = Target("at least", _AT_LEAST) if name in peers else None
        rows.append(Row(case, name, timing.median, "images/s", timing.spread, against, target))
    return rows


def _gradients(log_prob: Callable[[Tensor], Tensor], x: Tensor, steps: int) -> None:
    for _ in range(steps):
        variable = x.clone().requires_grad_(True)
        torch.autograd.grad(log_prob(variable).sum(), variable)


def _by_torch(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Contender:
    return Contender(lambda steps: _gradients(log_prob, x, steps), len(x))


def _steps(log_prob: Callable[[Tensor], Tensor], learned: Sequence[nn.Parameter], batches: Images) -> Contender:
    def run(steps: int) -> None:
        maximise_likelihood(log_prob, learned, (batches.at(step) for step in range(steps)), 1e-4)

    return Contender(run, batches.batch)


def _ready(peer: Peer, batches: Images) -> Peer:
    """A peer with its norms set from images; its density and gradient are seen to be finite."""
    peer.log_prob(batches.at(1))
    x = batches.at(0).requires_grad_(True)
    log_prob = peer.log_prob(x)
    (gradient,) = torch.autograd.grad(log_prob.sum(), x)
    if log_prob.shape != (len(x),) or not bool(torch.isfinite(log_prob).all() & torch.isfinite(gradient).all()):
        raise FlowpriorError(f"{peer.about}: density or gradient is not finite, so nothing was timed")
    return peer


def _agree(found: Tensor, wanted: Tensor) -> None:
    apart = float(((found - wanted).abs() / wanted.abs()).max())
    if not apart <= _AGREEMENT:
        raise FlowpriorError(f"log p by the kernel and by torch's layers are {apart:.2g} apart; nothing was timed")


def _shape_note(name: str, learned: Sequence[nn.Parameter], log_prob: Callable[[Tensor], Tensor]) -> str:
    weights, count = sum(weight.numel() for weight in learned), per_image(log_prob, SHAPE)
    return f"{name}: {weights:,} learned weights, {count.padded / 1e6:.2f} million multiply-adds per image and pass."
