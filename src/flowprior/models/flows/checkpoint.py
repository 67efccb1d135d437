"""A trained flow on disk: `weights.safetensors` and `config.json` in one folder. Nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flowprior.errors import FlowpriorError
from flowprior.models.flows.base import Flow
from flowprior.models.flows.registry import build

WEIGHTS, CONFIG = "weights.safetensors", "config.json"


def save_flow(folder: str | Path, flow: Flow, facts: dict[str, Any] | None = None) -> None:
    """Write a flow and what is known about it; each file beside and renamed.

    Args:
        folder: made when missing.
        flow: any registered flow.
        facts: more entries for config.json: bits, bits_per_dim, steps, seconds ...
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "flow": flow.name,
        "shape": list(flow.shape),
        "settings": flow.settings.model_dump(),
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        **(facts or {}),
    }
    partial = folder / f"{WEIGHTS}.partial"
    try:
        save_file({key: value.detach().cpu().contiguous() for key, value in flow.state_dict().items()}, partial)
        partial.replace(folder / WEIGHTS)
    finally:
        partial.unlink(missing_ok=True)
    partial = folder / f"{CONFIG}.partial"
    try:
        partial.write_text(json.dumps(config, indent=2) + "\n")
        partial.replace(folder / CONFIG)
    finally:
        partial.unlink(missing_ok=True)


def load_flow(folder: str | Path) -> Flow:
    """Read a flow, in evaluation mode on the CPU.

    Raises:
        FlowpriorError: the folder is no checkpoint, a file is damaged, or the weights are of another architecture.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text())
        name, shape, settings = config["flow"], tuple(config["shape"]), config["settings"]
    except (FileNotFoundError, NotADirectoryError):
        raise FlowpriorError(
            f"no checkpoint in {folder}: {CONFIG} is missing; train a flow or name another folder"
        ) from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise FlowpriorError(f"{folder / CONFIG} is not a flow's description ({error}); train the flow again") from None
    flow = build(name, shape, **settings)
    try:
        weights = load_file(folder / WEIGHTS)
    except FileNotFoundError:
        raise FlowpriorError(f"no weights in {folder}: {WEIGHTS} is missing; train the flow again") from None
    except SafetensorError as error:
        raise FlowpriorError(
            f"{folder / WEIGHTS} is damaged ({error}); train the flow again or restore the file"
        ) from None
    _check_architecture(folder, flow, weights)
    flow.load_state_dict(weights)
    return flow.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _check_architecture(folder: Path, flow: Flow, weights: dict[str, torch.Tensor]) -> None:
    wanted = {key: tuple(value.shape) for key, value in flow.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    if wanted == found:
        return
    key = next(key for key in sorted({*wanted, *found}) if wanted.get(key) != found.get(key))
    raise FlowpriorError(
        f"{folder / WEIGHTS} is of another architecture than {CONFIG} says ('{flow.name}', {flow.settings}): "
        f"{key} should be {wanted.get(key, 'absent')}, got {found.get(key, 'absent')}; use the matching {CONFIG}"
    )
