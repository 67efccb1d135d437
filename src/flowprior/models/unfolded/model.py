"""Deep unfolding with proximal maps that are learned: K folds of a data step and a proximal map (Wei et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
from pydantic import Field
from torch import Tensor, nn

from flowprior.errors import FlowpriorError
from flowprior.models.unfolded.proximal import (
    Asked,
    FlowProximal,
    NetworkProximal,
    Proximal,
    proximal_map,
    shrunk_laplace,
    shrunk_normal,
)
from flowprior.operators.base import Operator
from flowprior.optim.fista import largest_eigenvalue
from flowprior.randomness import keyed_rows
from flowprior.registry import SettingsModel


class Unfolded(nn.Module):
    """X <- prox_k(x - mu_k A_adjoint(A x - y)), K times, trained end to end (Eq. 8 to 12 of Wei et al. 2022).

    The sign is that of a descent; the text has the residual the other way round. With a flow as proximal map the last
    fold does not shrink in the paper: its flow cancels, G(F(x)) = x, and is left out here, so that K folds hold K - 1
    flows, and one more for the first iterate G_0(0). `last_shrinks` keeps it.

    Step sizes are in units of 1 / ||A||^2, so that the first value suits any operator.
    """

    name: ClassVar[str] = "unfolded"
    trained_by: ClassVar[str] = "flowprior.models.unfolded.learning:UnfoldedTraining"
    #: Weights that were trained before move slowly.
    training_defaults: ClassVar[dict[str, Any]] = {"learning_rate": 5e-4, "clip_norm": 1.0}

    class Settings(SettingsModel):
        """Settings of `unfolded`."""

        folds: int = Field(4, ge=1, description="K: data steps, each followed by a proximal map")
        prox: str = Field("haar_glow", description="proximal map: a registered flow, or a network: unet, resnet")
        prox_settings: dict[str, Any] = Field(default_factory=dict, description="the flow's or network's own settings")
        tied: bool = Field(False, description="one proximal map for all folds; else each fold has its own")
        trains: Literal["all", "steps"] = Field(
            "all",
            description="what is learned: everything, or only step sizes and strengths, with the proximal map as it "
            "was trained before (plug-and-play; one map for all folds)",
        )
        last_shrinks: bool = Field(
            False, description="flows: whether the last fold shrinks; if not (Wei et al. 2022) its flow cancels"
        )
        shrinkage: Literal["normal", "laplace"] = Field(
            "normal", description="flows: density of the latents that the shrinkage is the proximal map of"
        )
        shrinkage_by: Literal["fold", "level"] = Field(
            "fold", description="flows: one strength for each fold, as in the paper, or for each level of each fold"
        )
        start: Literal["zero_latent", "zero", "pseudo_inverse"] | None = Field(
            None, description="first iterate: G_0(0), the image zero, or A_dagger y; null: G_0(0) of flows, else zero"
        )
        data_step: Literal["gradient", "pseudo_inverse"] = Field(
            "gradient", description="along A_adjoint(A x - y), or A_dagger(A x - y), which no bad condition slows"
        )
        step_size: float = Field(
            0.7,
            gt=0,
            description="first mu of every fold, in units of 1 / ||A||^2; with 1 no fold of denoising sees more"
            " than the measurement, and none of them learns",
        )
        strength: float | None = Field(
            None,
            gt=0,
            description="first strength of every fold: lambda of flows, the noise level told to networks; null: 1 of "
            "flows (far from images a flow with less is too steep to learn from), .1 of networks",
        )
        step_rate: float = Field(
            100.0, gt=0, description="how many times faster than weights the logarithms of mu and strengths move"
        )
        likelihood: float = Field(
            0.0,
            ge=0,
            description="flows: weight of the mean bits per dimension of the folds' flows on true images, in the "
            "training's loss: the paper's future work",
        )
        memory: Literal["plain", "reversible"] = Field(
            "plain", description="reversible: what a gradient needs is computed again, so memory stays with depth"
        )

    def __init__(self, shape: tuple[int, int, int], settings: Settings) -> None:
        super().__init__()
        self.shape, self.settings = shape, settings
        shrink = {"normal": shrunk_normal, "laplace": shrunk_laplace}[settings.shrinkage]
        first, *others = (
            proximal_map(
                settings.prox,
                shape,
                settings.prox_settings,
                shrink,
                settings.shrinkage_by == "level",
                settings.memory == "reversible",
            )
            for _ in range(1 if self.shares else settings.folds + 1)
        )
        self._check(first)
        self.begins_at_origin = settings.start in (None, "zero_latent") and isinstance(first, FlowProximal)
        asked = settings.strength
        self._first_strength = first.first_strength if asked is None else asked
        #: Folds that end with a proximal map.
        self.mapped = settings.folds - (isinstance(first, FlowProximal) and not settings.last_shrinks)
        count = 1 if self.shares else self.mapped + self.begins_at_origin
        self.maps = nn.ModuleList([first, *others][:count])
        self.steps = nn.Parameter(torch.zeros(settings.folds))
        self.strengths = nn.Parameter(torch.zeros(self.mapped, first.strengths))
        if settings.trains == "steps":
            self.maps.requires_grad_(False)
        #: The digest of the weights that it began with, if they are another model's.
        self.begun: str | None = None
        # Norms by the batch are those of the training's data unless it learns.
        self.eval()
        self._norms: WeakKeyDictionary[Operator, tuple[str, float]] = WeakKeyDictionary()

    @property
    def shares(self) -> bool:
        """Whether all folds have the same proximal map."""
        return self.settings.tied or self.settings.trains == "steps"

    @property
    def by_batch(self) -> bool:
        """Whether an image depends on the others of its batch while this learns: by norms that do not stand still."""
        first: Proximal = self.maps[0]  # type: ignore[assignment]
        return first.by_batch and self.settings.trains == "all"

    @property
    def passes(self) -> int:
        """Passes through a network for one answer."""
        maps: list[Proximal] = list(self.maps)  # type: ignore[arg-type]
        return self.mapped * maps[0].passes + self.begins_at_origin

    @property
    def step_sizes(self) -> Tensor:
        """Mu of each fold (K,), in units of 1 / ||A||^2."""
        return self.settings.step_size * (self.settings.step_rate * self.steps).exp()

    @property
    def strength_of_folds(self) -> Tensor:
        """Lambda, or the noise level, of each fold that has a proximal map (folds, levels)."""
        return self._first_strength * (self.settings.step_rate * self.strengths).exp()

    def forward(self, operator: Operator, y: Tensor) -> Tensor:
        """The last fold's images (N, C, H, W), not clipped, differentiable by all that is learned."""
        *_, found = self.folds(operator, y)
        return found

    def folds(
        self,
        operator: Operator,
        y: Tensor,
        asked: Callable[[Any], AbstractContextManager[Asked]] = nullcontext,
    ) -> Iterator[Tensor]:
        """The images (N, C, H, W) of the start and after each fold, not clipped.

        Args:
            operator: A.
            y: measurements (N, *operator.measurement_shape).
            asked: how a proximal map is computed; left out: by its own layers, with gradients.
        """
        x = self._start(operator, y, asked)
        yield x
        sizes, strengths = self.step_sizes, self.strength_of_folds
        if self.settings.data_step == "gradient":
            sizes = sizes / self._squared_norm(operator)
        back = operator.A_adjoint if self.settings.data_step == "gradient" else operator.A_dagger
        for fold in range(self.settings.folds):
            x = x - sizes[fold] * back(operator.A(x) - y)
            if fold < self.mapped:
                with asked(self._map(fold)) as prox:
                    x = prox(x, strengths[fold])
            yield x

    @torch.no_grad()
    def solve_in_folds(self, operator: Operator, y: Tensor) -> Iterator[Tensor]:
        """As `folds`, without gradients and as fast as can be."""
        threads = torch.get_num_threads()
        yield from self.folds(operator, y, lambda prox: prox.fixed(threads))

    def solve(self, operator: Operator, y: Tensor) -> Tensor:
        """Images (N, C, H, W), not clipped, from measurements (N, *operator.measurement_shape)."""
        *_, found = self.solve_in_folds(operator, y)
        return found

    def begin_with(self, model: Any, digest: str) -> None:
        """Let every fold's proximal map begin as a trained model: a flow, or a denoiser.

        Args:
            model: the trained one.
            digest: of its weights.

        Raises:
            FlowpriorError: it is of another kind or architecture.
        """
        for one in self.maps:
            try:
                one.begin_with(model)  # type: ignore[operator]
            except ValueError as error:
                raise FlowpriorError(
                    f"model 'unfolded' with prox '{self.settings.prox}' can not begin with "
                    f"'{getattr(model, 'name', type(model).__name__)}': {error}; "
                    "give prox and prox_settings as that model has them"
                ) from None
        self.begun = digest

    def _map(self, fold: int) -> Proximal:
        found: Proximal = self.maps[0 if self.shares else fold + self.begins_at_origin]  # type: ignore[assignment]
        return found

    def _start(self, operator: Operator, y: Tensor, asked: Callable[[Any], AbstractContextManager[Asked]]) -> Tensor:
        if self.begins_at_origin:
            with asked(self.maps[0]) as first:
                assert not isinstance(first, NetworkProximal)
                return first.origin().expand(len(y), *self.shape)
        if self.settings.start == "pseudo_inverse":
            return operator.A_dagger(y)
        return y.new_zeros(len(y), *self.shape)

    def _squared_norm(self, operator: Operator) -> float:
        """||A||^2, found once for each operator with its settings."""
        settings = repr(operator.settings)
        known = self._norms.get(operator)
        if known is None or known[0] != settings:
            with torch.no_grad():
                start = keyed_rows(torch.rand, self.shape, [("unfolded", "norm")]).to(self.steps)
                found = largest_eigenvalue(lambda x: operator.A_adjoint(operator.A(x)), start, 1.0)
            self._norms[operator] = known = settings, found or 1.0
        return known[1]

    def _check(self, first: Proximal) -> None:
        """Refuse settings that only flows understand."""
        settings = self.settings
        if isinstance(first, FlowProximal):
            return
        odd = {
            "start": settings.start == "zero_latent",
            "last_shrinks": settings.last_shrinks,
            "shrinkage": settings.shrinkage == "laplace",
            "shrinkage_by": settings.shrinkage_by == "level",
            "likelihood": settings.likelihood > 0,
        }
        if name := next((name for name, wrong in odd.items() if wrong), None):
            raise FlowpriorError(
                f"{name} {getattr(settings, name)!r} is for flows, and prox '{settings.prox}' is a network; "
                "leave it out"
            )
