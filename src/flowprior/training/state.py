"""Where a training run stands, on disk: enough to go on with bit-identical results. No pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from flowprior.tensors import write_tensors
from flowprior.training.flat import Flat


@dataclass
class RunState:
    """Everything that a step changes. Randomness is keyed by step, so the step number stands for it.

    Attributes:
        flow: the weights that are learned; `values`: the same in one piece.
        averaged: their moving average; `averages`: the same in one piece.
        kept: the averaged weights with the lowest validation bits per dimension.
        optimiser: Adam over `values`.
        step: steps done.
        seconds: time spent training, over all parts of the run.
        best: lowest validation bits per dimension so far.
        stale: validations since then.
        history: one record per validation.
    """

    flow: nn.Module
    averaged: nn.Module
    kept: nn.Module
    values: Flat
    averages: Flat
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    best: float = float("inf")
    stale: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def save(self, folder: Path, identity: str) -> None:
        """Write beside and rename, so that a kill in between leaves the last complete state."""
        tensors: dict[str, Tensor] = {}
        for name, module in self._modules():
            tensors |= {f"{name}/{key}": value.contiguous() for key, value in module.state_dict().items()}
        for index, entry in self.optimiser.state_dict()["state"].items():
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
            prefix = f"{name}/"
            module.load_state_dict(
                {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            )
        saved = self.optimiser.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser/"):
                _, index, entry = key.split("/")
                moments.setdefault(int(index), {})[entry] = value
        self.optimiser.load_state_dict({"state": moments, "param_groups": saved["param_groups"]})
        self.step, self.seconds = facts["step"], facts["seconds"]
        self.best, self.stale, self.history = facts["best"], facts["stale"], facts["history"]
        return True

    def _modules(self) -> tuple[tuple[str, nn.Module], ...]:
        return ("flow", self.flow), ("averaged", self.averaged), ("kept", self.kept)


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata()
