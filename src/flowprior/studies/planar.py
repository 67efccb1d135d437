"""A flow of the plane, where everything can be seen: likely latents that stand for unlikely points."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from flowprior.randomness import generator
from flowprior.registry import SettingsModel
from flowprior.studies.base import Study, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOISE = 0.05
_EDGE = 3.0


class PlanarFlow(Study):
    """RealNVP (Dinh et al. 2017) on two half-moons: densities in both spaces, and where they disagree.

    A connected latent space must cover two separate moons, so that latents of high likelihood between them stand for
    points where no data is ("spurious"): searching for likely latents is not searching for likely images, as Asim et
    al. 2020 show by the same toy.
    """

    name = "planar_flow"
    caption = (
        "A flow trained on two half-moons: data and density (left), latents and log p(x) of their points (right); "
        "red: more likely as latents than a quarter of the data, less likely as points than 95 % of it."
    )

    class Settings(SettingsModel):
        """Settings of `planar_flow`."""

        couplings: int = Field(8, ge=2, description="affine couplings, of alternating coordinates")
        hidden: int = Field(64, ge=1, description="width of their networks")
        steps: int = Field(2000, ge=1, description="of Adam, 256 points each")
        grid: int = Field(80, ge=8, description="points of a side of the grid of latents")

    def table(self, subject: Subject) -> pd.DataFrame:
        """Columns: kind ("data" or "grid"), x1, x2, z1, z2, log_prob_x, log_prob_z, spurious."""
        settings = self.settings
        flow = trained(settings.couplings, settings.hidden, settings.steps, subject.seed)
        data = half_moons(2000, generator(subject.seed, "planar_flow", "shown"))
        side = torch.linspace(-_EDGE, _EDGE, settings.grid)
        z = torch.cartesian_prod(side, side)
        with torch.no_grad():
            codes = flow(data)[0]
            places = flow.inverse(z)
            of_data, of_grid = flow.log_prob(data), flow.log_prob(places)
        typical, rare = _normal(codes).quantile(0.25), of_data.quantile(0.05)
        parts = []
        for kind, x, latent, density in (("data", data, codes, of_data), ("grid", places, z, of_grid)):
            spurious = (_normal(latent) > typical) & (density < rare) & torch.tensor(kind == "grid")
            columns = torch.cat([x, latent, density[:, None], _normal(latent)[:, None]], 1).tolist()
            parts += [(kind, *values, bool(flag)) for values, flag in zip(columns, spurious, strict=True)]
        return pd.DataFrame(parts, columns=["kind", "x1", "x2", "z1", "z2", "log_prob_x", "log_prob_z", "spurious"])

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """Data space and latent space side by side."""
        points, latents = figure.subplots(1, 2)
        data, grid = table[table["kind"] == "data"], table[table["kind"] == "grid"]
        odd = grid[grid["spurious"].astype(bool)]
        shown = grid["log_prob_x"].clip(lower=-10)
        points.scatter(grid["x1"], grid["x2"], c=shown, s=2, cmap="viridis")
        points.plot(data["x1"], data["x2"], ".", color="#000000", markersize=1)
        points.plot(odd["x1"], odd["x2"], ".", color="#D32F2F", markersize=2)
        latents.scatter(grid["z1"], grid["z2"], c=shown, s=4, cmap="viridis")
        latents.plot(data["z1"], data["z2"], ".", color="#000000", markersize=1)
        latents.plot(odd["z1"], odd["z2"], ".", color="#D32F2F", markersize=3)
        points.set_xlim(-1.6, 2.6)
        points.set_ylim(-1.3, 1.8)
        points.set_xlabel("x = G(z)")
        latents.set_xlabel("z")
        for axis in (points, latents):
            axis.set_aspect("equal")
            axis.grid(visible=False)


def half_moons(count: int, source: torch.Generator) -> Tensor:
    """Points (count, 2) of two interleaved half-circles with a little noise."""
    angle = math.pi * torch.rand(count, generator=source)
    lower = (torch.rand(count, generator=source) < 0.5).float()
    x = angle.cos() * (1 - 2 * lower) + lower
    y = angle.sin() * (1 - 2 * lower) + 0.5 * lower
    return torch.stack([x, y], 1) + _NOISE * torch.randn(count, 2, generator=source)


class RealNVP(nn.Module):
    """Affine couplings of the plane with bounded log-scales.

    Args:
        couplings: how many; each changes one coordinate, given the other.
        hidden: width of the networks.
        source: of the first weights.
    """

    def __init__(self, couplings: int, hidden: int, source: torch.Generator) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2))
            for _ in range(couplings)
        )
        with torch.no_grad():
            for parameter in self.parameters():
                wide = parameter.shape[-1] if parameter.ndim > 1 else 1
                parameter.copy_(torch.randn(parameter.shape, generator=source) * (parameter.ndim > 1) / wide**0.5)

    def _coupled(self, number: int, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.networks[number](kept[:, None])
        return 2 * torch.tanh(raw[:, 0] / 2), raw[:, 1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (N, 2) and log |det dz/dx| (N,)."""
        z, log_det = list(x.unbind(1)), x.new_zeros(len(x))
        for number in range(len(self.networks)):
            log_scale, shift = self._coupled(number, z[number % 2])
            z[1 - number % 2] = z[1 - number % 2] * log_scale.exp() + shift
            log_det = log_det + log_scale
        return torch.stack(z, 1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Points of latents."""
        x = list(z.unbind(1))
        for number in reversed(range(len(self.networks))):
            log_scale, shift = self._coupled(number, x[number % 2])
            x[1 - number % 2] = (x[1 - number % 2] - shift) * (-log_scale).exp()
        return torch.stack(x, 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x) in nats (N,)."""
        z, log_det = self(x)
        return _normal(z) + log_det


def trained(couplings: int, hidden: int, steps: int, seed: int) -> RealNVP:
    """A flow of half-moons by maximum likelihood."""
    source = generator(seed, "planar_flow", "training")
    flow = RealNVP(couplings, hidden, source)
    adam = torch.optim.Adam(flow.parameters(), lr=2e-3)
    for _ in range(steps):
        loss = -flow.log_prob(half_moons(256, source)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return flow


def _normal(z: Tensor) -> Tensor:
    return -0.5 * z.square().sum(1) - math.log(2 * math.pi)
