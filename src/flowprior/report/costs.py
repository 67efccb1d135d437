"""What a method costs: time for each image, and before the first the training of its model."""

from __future__ import annotations

import math
from typing import Any

from flowprior.report.formats import duration
from flowprior.report.lines import Line
from flowprior.report.results import Results, read_json


def training_seconds(results: Results, task: str, line: Line) -> float:
    """How long the model that a method asks on a task was trained; NaN where none was, or nothing says it."""
    experiment = results.experiment
    if line.prior not in experiment.priors:
        return math.nan
    config = read_json(results.layout.trained(experiment.training_of(line.prior, task), "config"))
    return float(config.get("seconds", math.nan))


def with_training(results: Results, line: Line) -> str:
    """A method's label with the training time of its model; of models for one task each, of all tasks together."""
    experiment = results.experiment
    if line.prior not in experiment.priors:
        return line.label
    tasks = [task for task in experiment.tasks if line in results.lines_on(task)]
    # Tasks may share a model.
    times = {experiment.training_of(line.prior, task): training_seconds(results, task, line) for task in tasks}
    whole = math.fsum(times.values())
    if not times or math.isnan(whole):
        return line.label
    of = f" for {len(times)} tasks" if len(times) > 1 else ""
    return f"{line.label}, trained {duration(whole)}{of}"


def cost_table(results: Results, task: str) -> list[dict[str, Any]]:
    """Methods of a task: `line`, `chosen` (of the summary), `training` in seconds; the fastest first."""
    entries = [
        {"line": line, "chosen": chosen, "training": training_seconds(results, task, line)}
        for line, chosen in results.chosen(task)
    ]
    return sorted(entries, key=lambda entry: _last(entry["chosen"]["seconds_per_image"]))


def _last(seconds: float) -> float:
    """For sorting: what was not measured comes last."""
    return math.inf if math.isnan(seconds) else seconds
