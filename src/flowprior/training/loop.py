"""The training loop: players that move in turn by Adam, averaged weights, validation, early stop, resume."""

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
from flowprior.parallel import one_core_each
from flowprior.training.batches import Batches, held_out_parts
from flowprior.training.flat import Flat
from flowprior.training.ranks import Ranks
from flowprior.training.settings import TrainingSettings
from flowprior.training.state import Playing, RunState
from flowprior.training.trainable import Each, Examples, Task, Trainable, trainable_of

#: Of saved states: those of another are not resumed.
_FORMAT = 2
#: Validation images scored in one piece.
_PART = 64


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
        model: the averaged weights with the best score on validation images, in evaluation mode.
        history: one record per validation: step, seconds, the players' losses, the score, learning_rate,
            images_per_second.
        score_name: what the score is called, such as "bits_per_dim".
        score: of `model` on the validation images.
        steps: steps done.
        seconds: time spent, validation included, over all parts of a resumed run.
    """

    model: Any
    history: list[dict[str, Any]]
    score_name: str
    score: float
    steps: int
    seconds: float

    @property
    def facts(self) -> dict[str, float]:
        """What a checkpoint's description says of its training."""
        return {self.score_name: self.score, "steps": self.steps, "seconds": self.seconds}


def train(
    model: Any,
    train_pixels: np.ndarray,
    validation_pixels: np.ndarray,
    bits: int,
    settings: TrainingSettings,
    key: tuple[object, ...],
    state_folder: Path | None = None,
    progress: ProgressLike | None = None,
    workers: int = 1,
    ranks: Ranks | None = None,
    task: Task | None = None,
) -> Trained:
    """Train a model on 8-bit pixels, by what its class names as its training (`Trainable`).

    A run that is killed and started again with the same arguments goes on from its last validation and ends with
    the same bits as one left alone on the same machine with the same number of workers.

    Args:
        model: fresh weights, on the device where to train.
        train_pixels: uint8 (N, H, W, C).
        validation_pixels: uint8 (M, H, W, C).
        bits: grey levels per channel, 2^bits.
        settings: see `TrainingSettings`.
        key: identity of the run; every random number follows from it.
        state_folder: where the run's state is kept for resuming; None: nowhere.
        progress: told how far the run is: a `flowprior.progress.Progress`, or anything with its two methods.
        workers: CPU cores that share this process's part of each batch; 1 on a GPU.
        ranks: the processes that share each batch (`flowprior.training.ranks`); None: this one alone.
            `settings.batch` is that of all together. All come back with the same model.
        task: the inverse problem that the model is trained for; None: for images as they are.

    Raises:
        FlowpriorError: the loss stopped being finite.
    """
    ranks = ranks or Ranks()
    device = next(model.parameters()).device
    trainable = trainable_of(model, settings, bits, task)
    batches = Batches(train_pixels, trainable, key)
    model.to(memory_format=trainable.layout)
    run = _begin(trainable, batches, device)
    seen = hashlib.sha256(np.ascontiguousarray(train_pixels).data).hexdigest()
    about = (_FORMAT, model.name, model.settings, model.shape, bits, settings, key, seen)
    identity = repr(about + trainable.identity)
    if state_folder is not None and run.resume(state_folder, identity) and progress:
        progress.resume(run.step)
    started, before = time.perf_counter(), run.seconds
    # Cores share a batch where they can; else all of them work on the whole, as torch divides it.
    workers = workers if trainable.divisible else 1
    with one_core_each(workers) as each:
        while run.step < settings.steps and not _stale(run, settings):
            stop = min(settings.steps, (run.step // settings.validate_every + 1) * settings.validate_every)
            since, count = time.perf_counter(), stop - run.step
            sums = [torch.zeros((), device=device) for _ in run.playing]
            while run.step < stop:
                whole = batches.at(run.step)
                parts = _chunks(tuple(ranks.part(tensor).to(device) for tensor in whole), workers)
                losses = _step(run, trainable, parts, each, ranks)
                for total, loss in zip(sums, losses, strict=True):
                    total += loss
                run.step += 1
                if progress and run.step % 10 == 0:
                    progress.update(run.step, **_named(run, [round(float(loss), 3) for loss in losses]))
            speed = count * settings.batch / (time.perf_counter() - since)
            run.seconds = before + time.perf_counter() - started
            found = _validated(run, trainable, validation_pixels, key, each, ranks)
            _note(run, trainable, found, [float(total) / count for total in sums], speed)
            run.seconds = before + time.perf_counter() - started
            if state_folder is not None and ranks.writes:
                run.save(state_folder, identity)
    return Trained(run.kept.eval(), run.history, trainable.score, run.best, run.step, run.seconds)


def _begin(trainable: Trainable, batches: Batches, device: torch.device) -> RunState:
    model, settings = trainable.model, trainable.settings
    trainable.initialise(tuple(tensor.to(device) for tensor in batches.first()))
    averaged, kept = copy.deepcopy(model), copy.deepcopy(model)
    playing = []
    for player in trainable.players():
        values = Flat(player.module)
        betas = (settings.beta1, settings.beta2)
        optimiser = torch.optim.Adam([values.values], lr=settings.learning_rate, betas=betas, fused=True)
        playing.append(Playing(player, values, optimiser))
    worst = math.inf if trainable.lower_is_better else -math.inf
    return RunState(tuple(playing), averaged.eval(), kept.eval(), Flat(averaged), worst)


def _stale(run: RunState, settings: TrainingSettings) -> bool:
    return settings.patience is not None and run.stale >= settings.patience


def _chunks(examples: Examples, count: int) -> list[Examples]:
    return list(zip(*(tensor.chunk(count) for tensor in examples), strict=True))


def _named(run: RunState, values: Sequence[float]) -> dict[str, float]:
    return {one.player.loss: value for one, value in zip(run.playing, values, strict=True)}


def _step(run: RunState, trainable: Trainable, parts: Sequence[Examples], each: Each, ranks: Ranks) -> list[Tensor]:
    """Every player moves once; the losses, in the unit of the history."""
    trainable.begin(run.step)
    losses = []
    for one in run.playing:
        losses.append(trainable.loss_of(_move(run, one, trainable, parts, each, ranks)))
        if one.player.module is trainable.model:
            own = one
    settings = trainable.settings
    decay = min(settings.ema, (1 + run.step) / (10 + run.step)) if settings.ema else 0.0
    run.averages.values.detach().lerp_(own.values.values.detach(), 1 - decay)
    if not trainable.divisible:
        _average_buffers(run, trainable, decay, ranks)
    return losses


def _move(
    run: RunState, one: Playing, trainable: Trainable, parts: Sequence[Examples], each: Each, ranks: Ranks
) -> Tensor:
    settings, rate = trainable.settings, learning_rate(trainable.settings, run.step)
    for group in one.optimiser.param_groups:
        group["lr"] = rate
    loss, gradients = trainable.gradients(one.player.name, parts, 1 / settings.batch, each)
    one.values.set_gradient(gradients)
    gradient = one.values.values.grad
    assert gradient is not None
    loss = loss.to(gradient.dtype)
    ranks.add_up([loss, gradient])
    if settings.clip_value is not None:
        gradient.clamp_(-settings.clip_value, settings.clip_value)
    norm = gradient.norm()
    if not bool(torch.isfinite(norm)):
        raise FlowpriorError(
            f"training of '{trainable.model.name}' stopped at step {run.step}: the gradient is not finite; "
            f"lower training.learning_rate (now {settings.learning_rate}) or clip_norm (now {settings.clip_norm})"
        )
    if settings.clip_norm is not None and norm > settings.clip_norm:
        gradient.mul_(settings.clip_norm / norm)
    one.optimiser.step()
    return loss


def _average_buffers(run: RunState, trainable: Trainable, decay: float, ranks: Ranks) -> None:
    """Averages over batches that a model keeps beside its weights: of all processes, smoothed as the weights are."""
    for own, averaged in zip(trainable.model.buffers(), run.averaged.buffers(), strict=True):
        if own.is_floating_point():
            ranks.add_up([own])
            own.div_(ranks.size)
            averaged.lerp_(own, 1 - decay)
        else:
            averaged.copy_(own)


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Adam's rate at a step: linear warm-up, then constant or cosine decay to zero."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    part = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * part))


def _validated(
    run: RunState, trainable: Trainable, pixels: np.ndarray, key: tuple[object, ...], each: Each, ranks: Ranks
) -> float:
    """The score of the averaged weights on the validation images."""
    scored = trainable.scorer(run.averaged, (*key, "validation"))

    def share(examples: Examples) -> Tensor:
        with torch.no_grad():  # a thread does not inherit the mode of the one that started it
            return scored(examples)

    own = held_out_parts(pixels, _PART, trainable, key)[ranks.rank :: ranks.size]
    total = torch.stack(
        [values.double().sum().cpu() for values in each(share, own)] or [torch.zeros((), dtype=torch.float64)]
    )
    mean = total.sum().to(next(run.averaged.parameters()).device)
    ranks.add_up([mean])
    return float(trainable.score_of(mean / len(pixels)))


def _note(run: RunState, trainable: Trainable, found: float, losses: Sequence[float], speed: float) -> None:
    """Keep the averaged weights if they are the best so far, and enter a record."""
    if found < run.best if trainable.lower_is_better else found > run.best:
        run.best, run.stale = found, 0
        run.kept.load_state_dict(run.averaged.state_dict())
    else:
        run.stale += 1
    run.history.append(
        {
            "step": run.step,
            "seconds": round(run.seconds, 2),
            **{f"loss_{name}": loss for name, loss in _named(run, losses).items()},
            f"validation_{trainable.score}": found,
            "learning_rate": learning_rate(trainable.settings, run.step - 1),
            "images_per_second": round(speed, 1),
        }
    )
