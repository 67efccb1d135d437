"""The training loop: maximum likelihood by Adam, averaged weights, validation, early stop, resume."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.models.flows.base import Flow, bits_per_dim
from flowprior.parallel import one_core_each
from flowprior.training.batches import Batches, validation_batches
from flowprior.training.flat import Flat
from flowprior.training.gradients import Each, Likelihood, likelihood_of
from flowprior.training.ranks import Ranks
from flowprior.training.settings import TrainingSettings
from flowprior.training.state import RunState

#: Of saved states: those of another are not resumed.
_FORMAT = 2


class ProgressLike(Protocol):
    """Who is told how far a run is."""

    def resume(self, done: int) -> None:
        """The run goes on after `done` steps of an earlier program."""

    def update(self, done: int, **facts: Any) -> None:
        """`done` steps are done."""


@dataclass(frozen=True)
class Trained:
    """What training yields.

    Attributes:
        flow: the averaged weights with the lowest validation bits per dimension, in evaluation mode.
        history: one record per validation: step, seconds, loss_bits_per_dim, validation_bits_per_dim,
            learning_rate, images_per_second.
        bits_per_dim: of `flow` on the validation images.
        steps: steps done.
        seconds: time spent, validation included, over all parts of a resumed run.
    """

    flow: Flow
    history: list[dict[str, Any]]
    bits_per_dim: float
    steps: int
    seconds: float

    @property
    def facts(self) -> dict[str, float]:
        """What a checkpoint's description says of its training."""
        return {"bits_per_dim": self.bits_per_dim, "steps": self.steps, "seconds": self.seconds}


def train(
    flow: Flow,
    train_pixels: np.ndarray,
    validation_pixels: np.ndarray,
    bits: int,
    settings: TrainingSettings,
    key: tuple[object, ...],
    state_folder: Path | None = None,
    progress: ProgressLike | None = None,
    workers: int = 1,
    ranks: Ranks | None = None,
) -> Trained:
    """Train a flow on 8-bit pixels.

    A run that is killed and started again with the same arguments goes on from its last validation and ends with
    the same bits as one left alone on the same machine with the same number of workers.

    Args:
        flow: fresh weights, on the device where to train.
        train_pixels: uint8 (N, H, W, C).
        validation_pixels: uint8 (M, H, W, C).
        bits: grey levels per channel, 2^bits.
        settings: see `TrainingSettings`.
        key: identity of the run; every random number follows from it.
        state_folder: where the run's state is kept for resuming; None: nowhere.
        progress: told how far the run is: a `flowprior.progress.Progress`, or anything with its two methods.
        workers: CPU cores that share this process's part of each batch; 1 on a GPU.
        ranks: the processes that share each batch (`flowprior.training.ranks`); None: this one alone.
            `settings.batch` is that of all together. All come back with the same flow.

    Raises:
        FlowpriorError: the loss stopped being finite.
    """
    ranks = ranks or Ranks()
    device = next(flow.parameters()).device
    batches = Batches(train_pixels, bits, settings, key)
    likelihood = likelihood_of(flow, settings)
    flow.to(memory_format=likelihood.layout)  # type: ignore[call-overload]
    run = _begin(flow, batches, settings, device)
    seen = hashlib.sha256(np.ascontiguousarray(train_pixels).data).hexdigest()
    identity = repr((_FORMAT, flow.name, flow.settings, flow.shape, bits, settings, key, seen))
    if state_folder is not None and run.resume(state_folder, identity) and progress:
        progress.resume(run.step)
    started, before = time.perf_counter(), run.seconds
    with one_core_each(workers) as each:
        while run.step < settings.steps and not _stale(run, settings):
            stop = min(settings.steps, (run.step // settings.validate_every + 1) * settings.validate_every)
            since, count = time.perf_counter(), stop - run.step
            loss_sum = torch.zeros((), device=device)
            while run.step < stop:
                parts = ranks.part(batches.at(run.step)).to(device).chunk(workers)
                loss = _step(run, likelihood, parts, bits, settings, each, ranks)
                loss_sum += loss
                run.step += 1
                if progress and run.step % 10 == 0:
                    progress.update(run.step, bits_per_dim=round(float(loss), 3))
            speed = count * settings.batch / (time.perf_counter() - since)
            run.seconds = before + time.perf_counter() - started
            found = _validated(run, likelihood, validation_pixels, bits, key, each, ranks)
            _note(run, found, settings, float(loss_sum) / count, speed)
            run.seconds = before + time.perf_counter() - started
            if state_folder is not None and ranks.writes:
                run.save(state_folder, identity)
    kept = run.kept
    assert isinstance(kept, Flow)
    return Trained(kept.eval(), run.history, run.best, run.step, run.seconds)


def _begin(flow: Flow, batches: Batches, settings: TrainingSettings, device: torch.device) -> RunState:
    flow.initialise(batches.first().to(device))
    averaged, kept = copy.deepcopy(flow), copy.deepcopy(flow)
    values = Flat(flow)
    optimiser = torch.optim.Adam(
        [values.values], lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), fused=True
    )
    return RunState(flow, averaged, kept, values, Flat(averaged), optimiser)


def _stale(run: RunState, settings: TrainingSettings) -> bool:
    return settings.patience is not None and run.stale >= settings.patience


def _step(
    run: RunState,
    likelihood: Likelihood,
    parts: Sequence[Tensor],
    bits: int,
    settings: TrainingSettings,
    each: Each,
    ranks: Ranks,
) -> Tensor:
    flow = run.flow
    assert isinstance(flow, Flow)
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(settings, run.step)
    loss, gradients = likelihood.gradients(parts, 1 / settings.batch, each)
    run.values.set_gradient(gradients)
    gradient = run.values.values.grad
    assert gradient is not None
    loss = loss.to(gradient.dtype)
    ranks.add_up([loss, gradient])
    if settings.clip_value is not None:
        gradient.clamp_(-settings.clip_value, settings.clip_value)
    norm = gradient.norm()
    if not bool(torch.isfinite(norm)):
        raise FlowpriorError(
            f"training of '{flow.name}' stopped at step {run.step}: the gradient is not finite; "
            f"lower training.learning_rate (now {settings.learning_rate}) or clip_norm (now {settings.clip_norm})"
        )
    if settings.clip_norm is not None and norm > settings.clip_norm:
        gradient.mul_(settings.clip_norm / norm)
    run.optimiser.step()
    decay = min(settings.ema, (1 + run.step) / (10 + run.step)) if settings.ema else 0.0
    run.averages.values.detach().lerp_(run.values.values.detach(), 1 - decay)
    return bits_per_dim(-loss, flow.dimensions, bits)


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Adam's rate at a step: linear warm-up, then constant or cosine decay to zero."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    part = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * part))


def _validated(
    run: RunState,
    likelihood: Likelihood,
    pixels: np.ndarray,
    bits: int,
    key: tuple[object, ...],
    each: Each,
    ranks: Ranks,
) -> float:
    """Bits per dimension of the averaged weights on the validation images."""
    averaged = run.averaged
    assert isinstance(averaged, Flow)
    log_prob = likelihood.log_prob(averaged)

    def share(images: Tensor) -> Tensor:
        with torch.no_grad():  # a thread does not inherit the mode of the one that started it
            return log_prob(images)

    own = list(validation_batches(pixels, 64, bits, key))[ranks.rank :: ranks.size]
    total = torch.stack(
        [values.double().sum().cpu() for values in each(share, own)] or [torch.zeros((), dtype=torch.float64)]
    )
    mean = total.sum().to(next(averaged.parameters()).device)
    ranks.add_up([mean])
    return float(bits_per_dim(mean / len(pixels), averaged.dimensions, bits))


def _note(run: RunState, found: float, settings: TrainingSettings, loss: float, speed: float) -> None:
    """Keep the averaged weights if they are the best so far, and enter a record."""
    if found < run.best:
        run.best, run.stale = found, 0
        run.kept.load_state_dict(run.averaged.state_dict())
    else:
        run.stale += 1
    run.history.append(
        {
            "step": run.step,
            "seconds": round(run.seconds, 2),
            "loss_bits_per_dim": loss,
            "validation_bits_per_dim": found,
            "learning_rate": learning_rate(settings, run.step - 1),
            "images_per_second": round(speed, 1),
        }
    )
