"""What a person types to get the same page again: the settings as one file, and the commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from flowprior.experiment.layout import Layout
from flowprior.experiment.params import Experiment
from flowprior.experiment.plan import fetched
from flowprior.provenance.source import UNKNOWN


def settings_text(asked: Experiment) -> str:
    """Every setting as it was resolved, as YAML: what `--config` changed and defaults included.

    Nulls stay: of some settings null is a choice and not the default.

    Args:
        asked: with the methods that were left out as well, so that the page says so again.
    """
    return yaml.safe_dump(asked.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def commands(
    asked: Experiment, source: dict[str, Any], others: Sequence[str] = (), raw: Sequence[str] = ()
) -> list[str]:
    """The commands, and as comments what no command does.

    Args:
        asked: the experiment.
        source: `commit`, and `diff`: the checksum of what was changed since, or None.
        others: more commits at which jobs ran.
        raw: the raw images' files.

    Example:
        >>> experiment = Experiment(name="tiny", priors={}, tasks={}, methods={})
        >>> commands(experiment, {"commit": "c0ffee", "diff": None})[:2]
        ['git checkout c0ffee', 'make install']
    """
    settings = Layout(asked).settings.as_posix()
    lines = []
    if source["commit"]:
        lines.append(f"git checkout {source['commit']}")
    else:
        lines.append("# The source tree was in no repository: its commit is not known.")
    if source["diff"] == UNKNOWN:
        lines.append("# Whether the tree held changes that no commit has is not known.")
    elif source["diff"]:
        lines.append("# The tree held changes that no commit has. Apply them first; this must then print")
        lines.append(f"# {source['diff'].partition(':')[2]}:")
        lines.append("git diff --no-ext-diff --no-color HEAD -- . ':!results' ':!dvc.lock' | sha256sum")
    for other in others:
        lines.append(f"# Some jobs ran at {other}")
    lines.append("make install")
    if raw and not fetched(asked.data):
        lines.append(f"# The raw images must lie here, with the checksums above: {', '.join(raw)}")
    lines.append(f"# In a fresh clone, put settings.yaml there first; it lies beside the page: {settings}")
    lines.append(f".venv/bin/snakemake --configfile {settings}")
    lines.append(f".venv/bin/flowprior verify results/{asked.name}")
    return lines
