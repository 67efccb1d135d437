"""Convex penalties without a learned prior, by proximal gradient steps: what both Lassos and `tv` share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from flowprior.operators.base import Operator
from flowprior.operators.identity import Identity
from flowprior.optim.fista import Proximal, fista, largest_eigenvalue
from flowprior.optim.problem import Terms
from flowprior.optim.recorder import Recorder
from flowprior.randomness import keyed_rows
from flowprior.registry import SettingsModel
from flowprior.solvers.base import Context, Result, Solver
from flowprior.solvers.memory import operator_key


class ProximalSettings(SettingsModel):
    """Settings of every solver with a convex penalty."""

    alpha: float = Field(0.01, gt=0, description="weight of the penalty beside ||A x - y||^2, images in [0, 1]")
    steps: int = Field(1000, ge=1, description="steps, at most")
    tolerance: float = Field(
        1e-4, ge=0, description="an image has converged where a step changes it by less than this part of its length"
    )


class ProximalSolver(Solver):
    """Minimise ||A x - y||^2 + alpha * g(x), every image by itself, from A_dagger y."""

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
        recorder = Recorder(settings.steps, observer=context.observer, progress=context.progress)
        curvature = context.remembered(("curvature", operator_key(operator)), lambda: _curvature(operator, y))

        def seen(step: int, images: Tensor) -> None:
            recorder.progress(step)
            if recorder.wants(step):
                recorder.record(step, self._terms(operator, y, images))

        problem = Proximal(
            lambda x: 2 * operator.A_adjoint(operator.A(x) - y),
            lambda v, s: self.prox(v, s * settings.alpha),
            curvature,
        )
        # One step of the length 1/2 is the whole answer where A is the identity.
        exact = isinstance(operator, Identity)
        steps, tolerance = (1, float("inf")) if exact else (settings.steps, settings.tolerance)
        found = fista(problem, operator.A_dagger(y), steps, tolerance, seen)
        finite = torch.isfinite(found.iterates).flatten(1).all(1)
        images = torch.where(finite.reshape(-1, 1, 1, 1), found.iterates, 0.0).clamp(0, 1)
        if not exact:
            recorder.record(int(found.steps.max()), self._terms(operator, y, found.iterates))
        trace = recorder.trace()
        return Result(
            images,
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
    """Twice the square of A's largest singular value."""
    if isinstance(operator, Identity):
        return 2.0
    start = keyed_rows(torch.randn, operator.shape, [("curvature",)]).to(like)
    return 2 * largest_eigenvalue(lambda x: operator.A_adjoint(operator.A(x)), start)
