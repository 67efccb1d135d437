"""A trained model on disk: `weights.safetensors` and `config.json` in one folder. Nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flowprior.errors import FlowpriorError
from flowprior.models.flows.registry import REGISTRY as FLOWS
from flowprior.models.registry import build

WEIGHTS, CONFIG = "weights.safetensors", "config.json"


def save_model(folder: str | Path, model: Any, facts: dict[str, Any] | None = None) -> None:
    """Write a model and what is known about it; each file beside and renamed.

    Args:
        folder: made when missing.
        model: of any kind that is trained.
        facts: more entries for config.json: bits, the score, steps, seconds ...
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        kind_of(model.name): model.name,
        "shape": list(model.shape),
        "settings": model.settings.model_dump(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **(facts or {}),
    }
    partial = folder / f"{WEIGHTS}.partial"
    try:
        save_file({key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}, partial)
        partial.replace(folder / WEIGHTS)
    finally:
        partial.unlink(missing_ok=True)
    partial = folder / f"{CONFIG}.partial"
    try:
        partial.write_text(json.dumps(config, indent=2) + "\n")
        partial.replace(folder / CONFIG)
    finally:
        partial.unlink(missing_ok=True)


def kind_of(name: str) -> str:
    """What stands before a model's name in a description: a flow is said to be one."""
    return "flow" if name in FLOWS.names() else "model"


def load_model(folder: str | Path) -> Any:
    """Read a model, in evaluation mode on the CPU.

    Raises:
        FlowpriorError: the folder is no checkpoint, a file is damaged, or the weights are of another architecture.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text())
        name = config["flow"] if "flow" in config else config["model"]
        shape, settings = tuple(config["shape"]), config["settings"]
    except (FileNotFoundError, NotADirectoryError):
        raise FlowpriorError(
            f"no checkpoint in {folder}: {CONFIG} is missing; train a model or name another folder"
        ) from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise FlowpriorError(
            f"{folder / CONFIG} is not a model's description ({error}); train the model again"
        ) from None
    model = build(name, shape, **settings)
    try:
        weights = load_file(folder / WEIGHTS)
    except FileNotFoundError:
        raise FlowpriorError(f"no weights in {folder}: {WEIGHTS} is missing; train the model again") from None
    except SafetensorError as error:
        raise FlowpriorError(
            f"{folder / WEIGHTS} is damaged ({error}); train the model again or restore the file"
        ) from None
    _check_architecture(folder, model, weights)
    model.load_state_dict(weights)
    return model.eval().to(memory_format=torch.channels_last)


def _check_architecture(folder: Path, model: Any, weights: dict[str, torch.Tensor]) -> None:
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    if wanted == found:
        return
    key = next(key for key in sorted({*wanted, *found}) if wanted.get(key) != found.get(key))
    raise FlowpriorError(
        f"{folder / WEIGHTS} is of another architecture than {CONFIG} says ('{model.name}', {model.settings}): "
        f"{key} should be {wanted.get(key, 'absent')}, got {found.get(key, 'absent')}; use the matching {CONFIG}"
    )
