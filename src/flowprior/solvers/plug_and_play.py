"""Plug-and-play: a denoiser in the place of a prior's proximal map."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from flowprior.models.capabilities import Denoises, passes_of
from flowprior.operators.base import Operator
from flowprior.operators.norms import squared_norm
from flowprior.optim.conjugate import conjugate_gradients
from flowprior.optim.problem import PASSES, Terms, finite_rows
from flowprior.optim.recorder import Recorder
from flowprior.registry import NoiseStd, SettingsModel
from flowprior.solvers.base import Context, Result, Solver
from flowprior.solvers.memory import operator_key

#: What the search begins at, beside what is measured: mid-grey.
_GREY = 0.5
#: Least noise that the data step assumes: without any, what A hardly shows would be divided by nearly nothing.
_LEAST = 1e-3
#: Where the data step's conjugate gradients end: a residual's length as a part of the first, in the type's precisions.
#: Ending sooner, an image in a batch could end a step before it does alone, and be another by far.
_SOLVED = 10


class PlugAndPlay(Solver):
    """Half-quadratic splitting (Zhang et al. 2021): a data step and a denoiser in turn, at falling noise levels s_k.

    From a grey z:

        x = argmin ||A x - y||^2 / noise_std^2 + prior_weight * ||x - z||^2 / s_k^2     by conjugate gradients
        z = denoise(x, s_k)

    The levels fall geometrically: large ones find what is large. The last is the measurement's noise as the image has
    it, noise_std / ||A||, below which a denoiser takes noise for picture, but no less than `last_std`: under less noise
    than that the last z is fitted to the measurement once more, as much more exact as that is.

    Where `denoise` is the posterior mean under a Gaussian, a constant level s leads to that Gaussian's posterior mean
    under the noise covariance prior_weight * noise_std^2 I + s^2 A A^T.
    """

    name = "plug_and_play"
    needs = Denoises
    baseline = True
    per_row = ("noise_std", "prior_weight")
    takes_start = True

    class Settings(SettingsModel):
        """Settings of `plug_and_play`."""

        noise_std: NoiseStd = Field(
            0.02, ge=0, description="standard deviation of the measurement noise, images in [0, 1]"
        )
        first_std: NoiseStd = Field(
            0.3, gt=0, description="noise level of the first step's denoiser; larger ones find what A hardly shows"
        )
        last_std: NoiseStd = Field(
            0.03, gt=0, description="noise level of the last step's denoiser, where the measurement's is smaller"
        )
        steps: int = Field(30, ge=1, description="steps, each of one data step and one pass of the denoiser")
        prior_weight: float = Field(
            0.23, gt=0, description="of the prior beside the data; 1: as if the denoiser were exact; Zhang et al.: .23"
        )
        data_steps: int = Field(
            100, ge=1, description="of conjugate gradients in one data step, at most; cut short they follow rounding"
        )
        tolerance: float = Field(
            0.1, ge=0, description="an image has converged where its last step moved it by less than this part of s_K"
        )

    @torch.no_grad()
    def run(self, operator: Operator, y: Tensor, prior: Denoises, context: Context) -> Result:
        """All levels for the whole batch; a row that stops being finite keeps its last finite image."""
        settings, each = self.settings, passes_of(prior)
        recorder = Recorder(settings.steps, observer=context.observer, progress=context.progress)
        noise, weight = (self.value_per_image(name, y, context) for name in self.per_row)
        norm = context.remembered(("norm", operator_key(operator)), lambda: squared_norm(operator, y) ** 0.5 or 1.0)
        own = noise.clamp(min=_LEAST) / norm
        levels = _levels(settings, own)
        z = y.new_full((len(y), *operator.shape), _GREY) if context.start is None else context.start
        state = _State(z, torch.ones_like(noise, dtype=torch.bool), torch.full_like(noise, float("inf")), noise * 0)
        recorder.record(0, _terms(operator, y, state.images))
        for step, level in enumerate(levels, start=1):
            ratio = weight * (norm * own / level).square()
            x = _data_step(operator, y, state.images, ratio, settings.data_steps)
            state = state.moved(prior.denoise(x, level).to(y), each)
            recorder.progress(step)
            if recorder.wants(step):
                recorder.record(step, _terms(operator, y, state.images))
        # Fitted to what was measured, where that is more exact than the last denoiser.
        more = levels[-1].square() - own.square()
        ratio = torch.where(more > 0, (norm * own).square() / more, math.inf)
        images = _data_step(operator, y, state.images, ratio, settings.data_steps)
        images = torch.where((state.alive & finite_rows(images))[:, None, None, None], images, state.images)
        trace = recorder.trace()
        return Result(
            images.clamp(0, 1),
            tuple("ok" if good else "diverged" for good in state.alive.tolist()),
            (state.alive & (state.change <= settings.tolerance * levels[-1])).cpu(),
            state.passes.cpu(),
            recorder.seconds(),
            replace(trace, passes=trace.passes / PASSES * each),
        )


class _State(NamedTuple):
    """Images (N, C, H, W), which of them are finite still, how far the last step moved each (rms), and their passes."""

    images: Tensor
    alive: Tensor
    change: Tensor
    passes: Tensor

    def moved(self, found: Tensor, passes: int) -> _State:
        """After a step that found other images, at so many passes each."""
        alive = self.alive & finite_rows(found)
        images = torch.where(alive[:, None, None, None], found, self.images)
        change = (images - self.images).square().flatten(1).mean(1).sqrt()
        return _State(images, alive, change, self.passes + passes * self.alive)


def _levels(settings: PlugAndPlay.Settings, noise: Tensor) -> list[Tensor]:
    """The denoiser's noise level at each step (N,), down to that of the measurement's noise (N,)."""
    last = noise.clamp(min=settings.last_std)
    first = last.clamp(min=settings.first_std)
    shares = torch.linspace(0, 1, settings.steps) if settings.steps > 1 else torch.ones(1)
    return [first * (last / first) ** float(share) for share in shares]


def _data_step(operator: Operator, y: Tensor, z: Tensor, ratio: Tensor, steps: int) -> Tensor:
    """Argmin over x of ||A x - y||^2 + ratio * ||x - z||^2: what is missing to z, by conjugate gradients from zero.

    Of an infinite ratio (N,) it is z.
    """
    follows = torch.isfinite(ratio)
    ratio = torch.where(follows, ratio, 1.0)

    def normal(rows: Tensor) -> Tensor:
        images = rows.reshape(z.shape)
        return operator.A_adjoint(operator.A(images)).flatten(1) + ratio[:, None] * rows

    missing = torch.where(follows[:, None], operator.A_adjoint(y - operator.A(z)).flatten(1), 0.0)
    tolerance = _SOLVED * torch.finfo(z.dtype).eps
    return z + conjugate_gradients(normal, missing, tolerance, steps).reshape(z.shape)


def _terms(operator: Operator, y: Tensor, images: Tensor) -> Terms:
    data_fit = (operator.A(images) - y).square().flatten(1).sum(1)
    return Terms(data_fit, data_fit, torch.zeros_like(data_fit), images)
