"""Whether rows are those that the experiment asks for.

Snakemake judges a file by what it remembers of it. Something else may have put another in its place: DVC brings
files back when one goes to another commit or starts an experiment. Rows say what they were made with, so no table
needs to trust the file's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flowprior.errors import FlowpriorError
from flowprior.experiment.params import Experiment
from flowprior.experiment.plan import Job

if TYPE_CHECKING:
    import pandas as pd


def check_origin(experiment: Experiment, job: Job, rows: pd.DataFrame, path: str | Path) -> None:
    """Refuse the rows of a job that were made with other settings than the experiment has now.

    Args:
        experiment: as it is now.
        job: that the file belongs to.
        rows: what lies in the file.
        path: of the file, for the message.

    Raises:
        FlowpriorError: the settings of the points, the seed or the bit depth differ.
    """
    points = experiment.chunks(job.method, job.task)[job.chunk]
    wanted = {f"setting '{point.label}'": point.settings for point in points}
    pairs = rows[["setting", "settings"]].drop_duplicates().itertuples(index=False, name=None)
    found = {f"setting '{label}'": json.loads(settings) for label, settings in pairs}
    difference = (
        _difference(found, wanted)
        or _difference({"seed": set(rows["seed"].tolist())}, {"seed": {experiment.seed}})
        or _difference({"bits": set(rows["bits"].tolist())}, {"bits": {experiment.bits}})
    )
    if difference:
        raise FlowpriorError(
            f"{path} holds {difference}: something other than the workflow put it there; remove it and run again"
        )


def _difference(found: Mapping[str, object], wanted: Mapping[str, object]) -> str | None:
    """The first entry that is not the same in both."""
    for name in {**found, **wanted}:
        if name not in wanted:
            return f"{name}, which the experiment does not have"
        if name not in found:
            return f"no {name}, which the experiment has"
        if found[name] != wanted[name]:
            return f"{name} with {found[name]}, the experiment has {wanted[name]}"
    return None
