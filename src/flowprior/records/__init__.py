"""What an experiment's files say about its runs.

One record per training, one per (task, method, prior, setting), and one of the whole. Records are read from files
alone, as many as there are: of a pipeline that was killed, those of the jobs that ended. Nothing here knows which
tracking tool they go to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from flowprior.experiment.layout import Layout
from flowprior.experiment.params import Experiment
from flowprior.records.aggregate import aggregate_record, chosen_settings
from flowprior.records.facts import Common
from flowprior.records.record import Record
from flowprior.records.solving import solving_records
from flowprior.records.training import training_record


def group_of(experiment: Experiment) -> str:
    """What an experiment's records are listed with: one list per experiment, data set and resolution."""
    return f"{experiment.name}/{experiment.data.source}-{experiment.data.resolution}px"


def records_of(
    experiment: Experiment, root: Path = Path(), skip: Callable[[str], None] = lambda reason: None
) -> Iterator[Record]:
    """Every record that an experiment has so far.

    Args:
        experiment: what ran, or runs.
        root: the repository root.
        skip: told of each job whose rows are of other settings than the experiment has now: they are no record of it.
    """
    layout = Layout(experiment, root)
    common = Common.of(layout, group_of(experiment), skip)
    for training in experiment.trainings():
        if (record := training_record(common, training)) is not None:
            yield record
    yield from solving_records(common, chosen_settings(layout))
    if (whole := aggregate_record(common)) is not None:
        yield whole
