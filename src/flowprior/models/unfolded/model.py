"""Deep unfolding with proximal maps that are learned: K folds of a data step and a proximal map (Wei et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
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
from flowprior.models.unfolded.settings import UnfoldedSettings
from flowprior.operators.base import Operator
from flowprior.operators.norms import squared_norm

#: What no fold's image leaves. Far from images a flow's way back has no bounds: measured, one of 30,000 training images
#: came back at 3,000 from the first fold, at 1e10 from the second, and its gradient broke the training off.
_RANGE = (-1.0, 2.0)


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

    Settings = UnfoldedSettings

    def __init__(self, shape: tuple[int, int, int], settings: UnfoldedSettings) -> None:
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
        if not isinstance(first, FlowProximal):
            settings.refuse_what_flows_alone_understand()
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
                    x = prox(x, strengths[fold]).clamp(*_RANGE)
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
            found = squared_norm(operator, self.steps)
            self._norms[operator] = known = settings, found or 1.0
        return known[1]
