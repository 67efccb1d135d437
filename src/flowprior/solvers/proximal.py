"""Convex penalties without a learned prior, by proximal gradient steps: what both Lassos and `tv` share."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from flowprior.operators.base import Operator
from flowprior.operators.identity import Identity
from flowprior.operators.norms import squared_norm
from flowprior.optim.fista import Proximal, fista
from flowprior.optim.problem import Terms
from flowprior.optim.recorder import Recorder
from flowprior.registry import SettingsModel
from flowprior.solvers.base import Context, Result, Solver
from flowprior.solvers.memory import operator_key

#: By how much the norm of an operator, found from below, is raised: a step that is too long would not converge.
_MARGIN = 1.02


class ProximalSettings(SettingsModel):
    """Settings of every solver with a convex penalty."""

    alpha: float = Field(0.01, gt=0, description="weight of the penalty beside ||A x - y||^2, images in [0, 1]")
    steps: int = Field(400, ge=1, description="steps with that weight, at most")
    rungs: int = Field(
        5, ge=0, description="heavier weights before it, each four times the next: what is large is found first"
    )
    rung_steps: int = Field(60, ge=1, description="steps with each heavier weight, at most")
    tolerance: float = Field(
        0.1,
        ge=0,
        description="an image has converged where a step moves it by less than this part of what the penalty alone can",
    )


class ProximalSolver(Solver):
    """Minimise ||A x - y||^2 + alpha * g(x), every image by itself.

    From a black image and a heavy weight to lighter ones, each search from where the one before ended: with alpha alone
    a few large coefficients grow by alpha a step, for thousands of steps.
    """

    needs = None
    baseline = True
    Settings: ClassVar[type[SettingsModel]] = ProximalSettings

    @abstractmethod
    def prox(self, images: Tensor, weight: float) -> Tensor:
        """Argmin over x of weight * g(x) + ||x - v||^2 / 2, of images v (N, C, H, W)."""

    @abstractmethod
    def penalty(self, images: Tensor) -> Tensor:
        """g(x) (N,)."""

    def run(self, operator: Operator, y: Tensor, prior: None, context: Context) -> Result:
        """Steps of FISTA for the whole batch; of a measurement that is the image, its one proximal map."""
        settings = self.settings
        # One step of the length 1/2 is the whole answer where A is the identity.
        exact = isinstance(operator, Identity)
        weights = [settings.alpha * 4.0**rung for rung in range(0 if exact else settings.rungs, -1, -1)]
        whole = 1 if exact else settings.rung_steps * settings.rungs + settings.steps
        recorder = Recorder(whole, observer=context.observer, progress=context.progress)
        curvature = context.remembered(("curvature", operator_key(operator)), lambda: _curvature(operator, y))

        def seen(step: int, images: Tensor) -> None:
            recorder.progress(step)
            if recorder.wants(step):
                recorder.record(step, self._terms(operator, y, images))

        images = operator.A_adjoint(y) if exact else y.new_zeros(len(y), *operator.shape)
        done = 0
        for weight in weights:
            recorder.begin(done)
            problem = Proximal(
                gradient=lambda x: 2 * operator.A_adjoint(operator.A(x) - y),
                prox=lambda x, step, weight=weight: self.prox(x, step * weight),  # type: ignore[misc]
                curvature=curvature,
            )
            last = weight == weights[-1]
            steps = 1 if exact else settings.steps if last else settings.rung_steps
            alone = weight / curvature * math.sqrt(images[0].numel()) if len(images) else 0.0
            found = fista(problem, images, steps, math.inf if exact else settings.tolerance * alone, seen)
            images, done = found.iterates, done + int(found.steps.max()) if len(images) else 0
        recorder.begin(0)
        recorder.record(done, self._terms(operator, y, images))
        finite = torch.isfinite(images).flatten(1).all(1)
        trace = recorder.trace()
        return Result(
            torch.where(finite.reshape(-1, 1, 1, 1), images, 0.0).clamp(0, 1),
            tuple("ok" if good else "diverged" for good in finite.tolist()),
            (found.converged & finite).cpu(),
            torch.zeros(len(y)),
            recorder.seconds(),
            replace(trace, passes=torch.zeros_like(trace.passes)),
        )

    def _terms(self, operator: Operator, y: Tensor, images: Tensor) -> Terms:
        data_fit = (operator.A(images) - y).square().flatten(1).sum(1)
        penalty = self.penalty(images)
        return Terms(data_fit + self.settings.alpha * penalty, data_fit, penalty, images)


def _curvature(operator: Operator, like: Tensor) -> float:
    """Twice the square of A's largest singular value, or a little more."""
    if isinstance(operator, Identity):
        return 2.0
    return 2 * _MARGIN * squared_norm(operator, like)
