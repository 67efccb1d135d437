"""From a file or Snakemake's config to a checked experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowprior import strict_yaml
from flowprior.errors import FlowpriorError
from flowprior.experiment.params import Experiment
from flowprior.experiment.schema import check_pieces
from flowprior.registry import validated


def experiment_from(config: Mapping[str, Any]) -> Experiment:
    """A checked experiment from parsed settings.

    Raises:
        FlowpriorError: one line that names the value and the remedy.
    """
    experiment = validated(Experiment, dict(config), f"experiment '{config.get('name', '?')}'")
    check_pieces(experiment)
    return experiment


def load_experiment(path: str | Path) -> Experiment:
    """Read and check `params/<name>.yaml`.

    Raises:
        FlowpriorError: the file is missing, is not YAML, or says something unknown.
    """
    return experiment_from(strict_yaml.read(path))


def merged(files: Sequence[str | Path], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What Snakemake makes of its --configfile and --config, read by the one strict reader.

    Args:
        files: later ones replace what stands in earlier ones, mapping by mapping.
        changes: likewise, from the command line.

    Raises:
        FlowpriorError: as `flowprior.strict_yaml.read`; or a change is none of a name, such as `--config data=3`.
    """
    found: dict[str, Any] = {}
    for settings in (*(strict_yaml.read(path) for path in files), changes):
        _update(found, settings, "")
    return found


def _update(settings: dict[str, Any], changes: Mapping[str, Any], place: str) -> None:
    for name, value in changes.items():
        before = settings.get(name)
        if isinstance(before, dict) and value is not None and not isinstance(value, Mapping):
            raise FlowpriorError(f"{place}{name} holds settings by name, got {value!r}; say '{name}={{key: value}}'")
        if isinstance(before, dict) and isinstance(value, Mapping):
            _update(before, value, f"{place}{name}.")
        else:
            settings[name] = value
