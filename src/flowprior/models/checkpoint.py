"""A trained model on disk: `weights.safetensors` and `config.json` in one folder. Nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from flowprior.errors import FlowpriorError
from flowprior.files import readable, replacing
from flowprior.models.files import CONFIG, WEIGHTS
from flowprior.models.flows.registry import REGISTRY as FLOWS
from flowprior.models.registry import build
from flowprior.tensors import read_tensors, write_tensors


def save_model(folder: str | Path, model: Any, facts: dict[str, Any] | None = None) -> None:
    """Write a model and what is known about it; each file beside and renamed.

    Args:
        folder: made when missing.
        model: of any kind that is trained.
        facts: more entries for config.json: bits, the score, steps, seconds ...
    """
    folder = Path(folder)
    config = {
        kind_of(model.name): model.name,
        "shape": list(model.shape),
        "settings": model.settings.model_dump(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **(facts or {}),
    }
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    write_tensors(folder / WEIGHTS, weights)
    with replacing(folder / CONFIG) as part:
        part.write_text(json.dumps(config, indent=2) + "\n")


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
        with readable(folder / CONFIG):
            config = json.loads((folder / CONFIG).read_text())
        name = config["flow"] if "flow" in config else config["model"]
        shape, settings = tuple(config["shape"]), dict(config["settings"])
    except (FileNotFoundError, NotADirectoryError):
        raise FlowpriorError(f"no checkpoint in {folder}: {_instead(folder)}") from None
    except FlowpriorError:
        raise
    except (ValueError, KeyError, TypeError) as error:  # no text, no JSON, no such entries
        raise FlowpriorError(
            f"{folder / CONFIG} is not a model's description ({error}); name a model's folder, or train it again"
        ) from None
    model = build(name, shape, **settings)
    try:
        weights = read_tensors(folder / WEIGHTS, "train the model again or restore the file")
    except FileNotFoundError:
        raise FlowpriorError(f"no weights in {folder}: {WEIGHTS} is missing; train the model again") from None
    _check_architecture(folder, model, weights)
    model.load_state_dict(weights)
    return model.eval().to(memory_format=torch.channels_last)


def _instead(folder: Path) -> str:
    """Why a path without a description holds no model, and which folder may be meant."""
    if folder.is_file():
        if (folder.parent / CONFIG).is_file():
            return f"that is a file; name its folder, {folder.parent}"
        return "that is a file; name the folder of a trained model"
    if not folder.exists():
        return "there is no such folder; train a model or name another folder"
    below = sorted(path.parent for path in (*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/*/{CONFIG}")))
    if below:
        others = f", or another of the {len(below)} below it" if len(below) > 1 else ""
        return f"{CONFIG} is missing there, but not in {below[0]}; name that folder{others}"
    if (folder.parent / CONFIG).is_file():
        return f"{CONFIG} is missing there, but not in {folder.parent}; name that folder"
    return f"{CONFIG} is missing; train a model or name another folder"


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
