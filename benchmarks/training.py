"""Training images per second: `flowprior.training.train` against the loop that one writes first."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.accelerator import device_named
from benchmarks.model import Options, Part, Row, Target, say
from benchmarks.plain import maximise_likelihood
from benchmarks.timing import Contender, interleaved, ratio
from flowprior.errors import FlowpriorError
from flowprior.models import flows
from flowprior.models.flows.base import Flow, bits_per_dim
from flowprior.training.batches import Batches
from flowprior.training.loop import train
from flowprior.training.settings import TrainingSettings
from flowprior.training.trainable import trainable_of

UNIT = "images/s"
BITS, KEY = 8, (0, "benchmark")
_BATCH, _SHAPE = 64, (3, 32, 32)
_SETTINGS = {"levels": 4, "steps": 6, "hidden": 48}
_AGREEMENT = 1e-3


@dataclass(frozen=True)
class TrainingJob:
    """A flow that is trained, its batch, and beside the plain loop the precisions of flowprior's."""

    flow: str
    settings: dict[str, Any]
    batch: int
    precisions: tuple[str, ...]
    at_least: float | None = None

    @property
    def name(self) -> str:
        """As the table has it."""
        settings = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        return f"{self.flow} ({settings}), {_SHAPE[1]} px, batch {self.batch}"


ON_CPU = (TrainingJob("haar_glow", _SETTINGS, _BATCH, ("float32",), 1.5),)
_WIDE = {"steps": 2, "hidden": 512}
ON_GPU = tuple(
    TrainingJob(name, settings, batch, ("float32", "bf16"))
    for name, settings, batch in (("haar_glow", _SETTINGS, 64), ("haar_glow", _SETTINGS, 512), ("chavez", _WIDE, 128))
)


def settings_of(steps: int, batch: int = _BATCH, precision: str = "float32") -> TrainingSettings:
    """Settings under which the real loop's updates are those of a plain one: constant rate, nothing clipped."""
    return TrainingSettings(
        steps=steps,
        batch=batch,
        learning_rate=1e-3,
        warmup=0,
        schedule="constant",
        clip_norm=None,
        validate_every=steps,
        precision=precision,
    )


def noise_pixels(count: int, side: int) -> np.ndarray:
    """Smooth random images, uint8 (N, side, side, 3): what is learned does not change the speed."""
    source = np.random.default_rng(0)
    coarse = source.integers(0, 256, (count, side // 4, side // 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def real_loop(
    flow: Flow, pixels: np.ndarray, steps: int, batch: int = _BATCH, precision: str = "float32"
) -> tuple[float, float]:
    """So many steps of flowprior's training, as the workflow calls it.

    Returns:
        Images per second by its own count, validation left out, and the mean bits per dimension.
    """
    workers = torch.get_num_threads() if next(flow.parameters()).device.type == "cpu" else 1
    settings = settings_of(steps, batch, precision)
    trained = train(copy.deepcopy(flow), pixels, pixels[:8], BITS, settings, KEY, workers=workers)
    return trained.history[0]["images_per_second"], trained.history[0]["loss_bits_per_dim"]


class Images:
    """The images that the real loop sees, by step, for loops of other kinds."""

    def __init__(self, flow: Flow, pixels: np.ndarray, batch: int = _BATCH) -> None:
        self.batch = batch
        self._batches = Batches(pixels, trainable_of(flow, settings_of(1, batch), BITS), KEY)

    def at(self, step: int) -> Tensor:
        """The images of one step."""
        return self._batches.at(step)[0]

    def first(self) -> Tensor:
        """What norms are set from."""
        return self._batches.first()[0]


def plain_loop(flow: Flow, batches: Images, steps: int) -> float:
    """The same steps by a plain loop on a flow of torch's layers; mean bits per dimension."""
    device, rate = next(flow.parameters()).device, settings_of(1).learning_rate
    images = (batches.at(step).to(device) for step in range(steps))
    likelihood = maximise_likelihood(flow.log_prob, flow.parameters(), images, rate)
    return float(bits_per_dim(torch.tensor(-likelihood), flow.dimensions, BITS))


def initialised(flow: Flow, batches: Images) -> Flow:
    """A copy with its norms set from the images that the real loop sets them from."""
    flow = copy.deepcopy(flow)
    flow.initialise(batches.first().to(next(flow.parameters()).device))
    return flow


def check_losses(flow: Flow, pixels: np.ndarray, batches: Images) -> None:
    """Raise unless both loops see the same losses over their first steps.

    Raises:
        FlowpriorError: they do not.
    """
    real, plain = (
        real_loop(flow, pixels, 3, batches.batch)[1],
        plain_loop(initialised(flow, batches), batches, 3),
    )
    if not abs(real - plain) <= _AGREEMENT * abs(plain):
        raise FlowpriorError(
            f"three training steps give {real:.4f} bits per dimension by flowprior, {plain:.4f} by a plain loop; "
            "one of them is wrong, so nothing was timed"
        )


def run(options: Options) -> Part:
    """Time both loops."""
    seconds, rounds = (1.0, 3) if options.quick else (6.0, 5)
    device = device_named(options.device)
    rows: list[Row] = []
    for lesson in ON_CPU if device.type == "cpu" else ON_GPU:
        say(f"  {lesson.name}")
        rows += _rows(lesson, device, seconds, rounds)
    notes = (
        "plain: one batch, autograd, `torch.optim.Adam` as it comes, all threads; flowprior: `training.loop.train` "
        "with a worker for each thread of a CPU, by its own count. The same batches; flowprior also averages weights.",
    )
    return Part("Training: images per second", tuple(rows), notes)


def _rows(lesson: TrainingJob, device: torch.device, seconds: float, rounds: int) -> list[Row]:
    torch.manual_seed(0)
    flow = flows.build(lesson.flow, _SHAPE, **lesson.settings).to(device)
    pixels = noise_pixels(1024, _SHAPE[1])
    batches = Images(flow, pixels, lesson.batch)
    check_losses(flow, pixels, batches)
    plain = initialised(flow, batches)

    def ours(precision: str) -> Contender:
        def run(steps: int) -> float:
            return steps * lesson.batch / real_loop(flow, pixels, steps, lesson.batch, precision)[0]

        return Contender(run, lesson.batch)

    def theirs(steps: int) -> None:
        plain_loop(plain, batches, steps)

    entries = {"plain": Contender(theirs, lesson.batch)}
    entries |= {"flowprior" if name == "float32" else f"flowprior, {name}": ours(name) for name in lesson.precisions}
    timings = interleaved(entries, seconds, rounds)
    rows = []
    for name, timing in timings.items():
        against = ratio(timing, timings["plain"], "plain") if name != "plain" else None
        target = Target("at least", lesson.at_least) if against and lesson.at_least else None
        rows.append(Row(lesson.name, name, timing.median, UNIT, timing.spread, against, target))
    return rows
