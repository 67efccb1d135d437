"""Training images per second: `flowprior.flows.training.train` against the loop that one writes first."""

from __future__ import annotations

import copy

import numpy as np
import torch

from benchmarks.model import Options, Part, Row, Target, say
from benchmarks.plain import maximise_likelihood
from benchmarks.timing import Contender, interleaved, ratio
from flowprior import flows
from flowprior.errors import FlowpriorError
from flowprior.flows.base import Flow, bits_per_dim
from flowprior.flows.training import train
from flowprior.flows.training.batches import Batches
from flowprior.params import TrainingSettings

UNIT = "images/s"
BITS, KEY = 8, (0, "benchmark")
_BATCH, _SHAPE = 64, (3, 32, 32)
_SETTINGS = {"levels": 4, "steps": 6, "hidden": 48}
_AGREEMENT = 1e-3


def settings_of(steps: int, batch: int = _BATCH) -> TrainingSettings:
    """Settings under which the real loop's updates are those of a plain one: constant rate, nothing clipped."""
    return TrainingSettings(
        steps=steps,
        batch=batch,
        learning_rate=1e-3,
        warmup=0,
        schedule="constant",
        clip_norm=None,
        validate_every=steps,
    )


def noise_pixels(count: int, side: int) -> np.ndarray:
    """Smooth random images, uint8 (N, side, side, 3): what is learned does not change the speed."""
    source = np.random.default_rng(0)
    coarse = source.integers(0, 256, (count, side // 4, side // 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def real_loop(flow: Flow, pixels: np.ndarray, steps: int) -> tuple[float, float]:
    """So many steps of flowprior's training, as the workflow calls it.

    Returns:
        Images per second by its own count, validation left out, and the mean bits per dimension.
    """
    trained = train(
        copy.deepcopy(flow), pixels, pixels[:8], BITS, settings_of(steps), KEY, workers=torch.get_num_threads()
    )
    return trained.history[0]["images_per_second"], trained.history[0]["loss_bits_per_dim"]


def plain_loop(flow: Flow, batches: Batches, steps: int) -> float:
    """The same steps by a plain loop on a flow of torch's layers; mean bits per dimension."""
    likelihood = maximise_likelihood(
        flow.log_prob, flow.parameters(), (batches.at(step) for step in range(steps)), settings_of(1).learning_rate
    )
    return float(bits_per_dim(torch.tensor(-likelihood), flow.dimensions, BITS))


def initialised(flow: Flow, batches: Batches) -> Flow:
    """A copy with its norms set from the images that the real loop sets them from."""
    flow = copy.deepcopy(flow)
    flow.initialise(torch.cat([batches.at(step) for step in range(max(1, 256 // batches.settings.batch))]))
    return flow


def check_losses(flow: Flow, pixels: np.ndarray, batches: Batches) -> None:
    """Raise unless both loops see the same losses over their first steps.

    Raises:
        FlowpriorError: they do not.
    """
    real, plain = real_loop(flow, pixels, 3)[1], plain_loop(initialised(flow, batches), batches, 3)
    if not abs(real - plain) <= _AGREEMENT * abs(plain):
        raise FlowpriorError(
            f"three training steps give {real:.4f} bits per dimension by flowprior, {plain:.4f} by a plain loop; "
            "one of them is wrong, so nothing was timed"
        )


def run(options: Options) -> Part:
    """Time both loops."""
    seconds, rounds = (1.0, 3) if options.quick else (6.0, 5)
    torch.manual_seed(0)
    flow = flows.build("haar_glow", _SHAPE, **_SETTINGS)
    pixels = noise_pixels(1024, _SHAPE[1])
    batches = Batches(pixels, BITS, settings_of(1), KEY)
    say("  haar_glow")
    check_losses(flow, pixels, batches)
    plain = initialised(flow, batches)

    def ours(steps: int) -> float:
        return steps * _BATCH / real_loop(flow, pixels, steps)[0]

    def theirs(steps: int) -> None:
        plain_loop(plain, batches, steps)

    timings = interleaved({"plain": Contender(theirs, _BATCH), "flowprior": Contender(ours, _BATCH)}, seconds, rounds)
    case = f"haar_glow ({', '.join(f'{key} {value}' for key, value in _SETTINGS.items())}), 32 px, batch {_BATCH}"
    rows = []
    for name, timing in timings.items():
        against = ratio(timing, timings["plain"], "plain") if name != "plain" else None
        target = Target("at least", 1.5) if against else None
        rows.append(Row(case, name, timing.median, UNIT, timing.spread, against, target))
    notes = (
        "plain: one batch, autograd, `torch.optim.Adam` as it comes, all threads; flowprior: `flows.training.train` "
        "with a worker for each thread, by its own count. Float32; the same batches; flowprior also averages weights.",
    )
    return Part("Training: images per second", tuple(rows), notes)
