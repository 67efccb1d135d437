"""Where a training run stands, on disk: enough to go on with bit-identical results. No pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from flowprior.tensors import write_tensors
from flowprior.training.flat import Flat
from flowprior.training.trainable import Player


@dataclass(frozen=True)
class Playing:
    """A player with its optimiser.

    Attributes:
        player: who.
        values: its weights in one piece.
        optimiser: Adam over them.
    """

    player: Player
    values: Flat
    optimiser: torch.optim.Optimizer


@dataclass
class RunState:
    """Everything that a step changes. Randomness is keyed by step, so the step number stands for it.

    Attributes:
        playing: the players in the order of their moves.
        averaged: the moving average of the model; `averages`: its weights in one piece.
        kept: the averaged model with the best score.
        best: best score so far.
        step: steps done.
        seconds: time spent training, over all parts of the run.
        stale: validations since the best.
        history: one record per validation.
    """

    playing: tuple[Playing, ...]
    averaged: nn.Module
    kept: nn.Module
    averages: Flat
    best: float
    step: int = 0
    seconds: float = 0.0
    stale: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def save(self, folder: Path, identity: str) -> None:
        """Write beside and rename, so that a kill in between leaves the last complete state."""
        tensors: dict[str, Tensor] = {}
        for name, module in self._modules():
            tensors |= {f"{name}/{key}": value.contiguous() for key, value in module.state_dict().items()}
        for index, one in enumerate(self.playing):
            for entry in one.optimiser.state_dict()["state"].values():
                tensors |= {f"optimiser/{index}/{key}": value.contiguous() for key, value in entry.items()}
        facts = {
            "identity": identity,
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "stale": self.stale,
            "history": self.history,
        }
        # One file holds both, so that tensors and facts can never be of different steps.
        write_tensors(
            folder / "state.safetensors",
            {key: value.clone() for key, value in tensors.items()},
            {"facts": json.dumps(facts)},
        )

    def resume(self, folder: Path, identity: str) -> bool:
        """Go on from a saved state, if there is one of the same run.

        Returns:
            Whether there was.
        """
        path = folder / "state.safetensors"
        if not path.exists():
            return False
        facts = json.loads(_metadata(path)["facts"])
        if facts["identity"] != identity:
            return False
        tensors = load_file(path)
        for name, module in self._modules():
            module.load_state_dict(_below(f"{name}/", tensors))
        for index, one in enumerate(self.playing):
            groups = one.optimiser.state_dict()["param_groups"]
            # Each optimiser has one parameter: the player's weights in one piece.
            one.optimiser.load_state_dict(
                {"state": {0: _below(f"optimiser/{index}/", tensors)}, "param_groups": groups}
            )
        self.step, self.seconds = facts["step"], facts["seconds"]
        self.best, self.stale, self.history = facts["best"], facts["stale"], facts["history"]
        return True

    def _modules(self) -> tuple[tuple[str, nn.Module], ...]:
        players = ((one.player.name, one.player.module) for one in self.playing)
        return *players, ("averaged", self.averaged), ("kept", self.kept)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()
