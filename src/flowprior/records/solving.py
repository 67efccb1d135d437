"""Records of reconstructions: one per (task, method, prior, setting), over all its test images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowprior.errors import FlowpriorError
from flowprior.evaluation.plots import means_along
from flowprior.evaluation.registry import CHOSEN_BY, compared, known
from flowprior.experiment.layout import Step
from flowprior.experiment.origin import check_origin
from flowprior.experiment.plan import Job, jobs
from flowprior.models.files import WEIGHTS
from flowprior.provenance.job import JobFacts
from flowprior.records import facts
from flowprior.records.pictures import grid
from flowprior.records.record import Curve, Record, finite, flat, thinned
from flowprior.records.training import checkpoint_digest, write_settings

if TYPE_CHECKING:
    import pandas as pd

    from flowprior.experiment.layout import Layout
    from flowprior.experiment.params import Experiment
    from flowprior.experiment.parts import Point

#: (task, method, prior, setting) -> how it was chosen, such as "validation,oracle".
Chosen = Mapping[tuple[str, str, str, str], str]

#: What a job leaves; its rows alone are those of one that was killed.
_WHOLE = ("rows", "traces", "images")


def solving_records(common: facts.Common, chosen: Chosen) -> Iterator[Record]:
    """Of every setting whose job over the test images has ended.

    Args:
        common: of the experiment.
        chosen: which of them stand in the tables, and why; empty as long as nothing was evaluated.
    """
    import pandas as pd

    experiment = common.layout.experiment
    for _, line in groupby(jobs(experiment), key=lambda job: (job.task, job.method, job.prior)):
        of_split: dict[str, list[Job]] = {split: [] for split in experiment.solved_splits}
        for job in line:
            if all(common.layout.solved(job, kind).exists() for kind in _WHOLE) and _is_current(common, job):
                of_split[job.split].append(job)
        beside = {
            split: pd.concat([pd.read_parquet(common.layout.solved(job, "rows")) for job in solved])
            for split, solved in of_split.items()
            if solved and split != "test"
        }
        for job in of_split["test"]:
            yield from _of_job(common, job, beside, chosen)


def _is_current(common: facts.Common, job: Job) -> bool:
    """Whether the rows that lie there are those that the experiment asks for."""
    import pandas as pd

    path = common.layout.solved(job, "rows")
    try:
        check_origin(common.layout.experiment, job, pd.read_parquet(path), path)
    except FlowpriorError as error:
        common.skip(str(error))
        return False
    wanted = {"task": common.layout.experiment.tasks[job.task].problem()}
    if facts.other_params(JobFacts.read(common.layout.solved(job, "job")), wanted):
        common.skip(f"{path} is of another '{job.task}' than the experiment has now; run the workflow again")
        return False
    return True


def _of_job(common: facts.Common, job: Job, beside: Mapping[str, pd.DataFrame], chosen: Chosen) -> Iterator[Record]:
    """The record of each setting; `beside`: rows of the line on validation images and on other test sets."""
    import pandas as pd

    layout, step = common.layout, Step.solving(job)
    experiment, said = layout.experiment, JobFacts.read(layout.solved(job, "job"))
    rows = pd.read_parquet(layout.solved(job, "rows"))
    traces = dict(iter(pd.read_parquet(layout.solved(job, "traces")).groupby("setting", sort=False)))
    tags = facts.job_tags(said) | _checkpoint(layout, job, said)
    tags["mlflow.source.name"] = "workflow/rules/reconstruct.smk"
    costs = facts.costs(said, layout.benchmark(step))
    for place, point in enumerate(experiment.chunks(job.method, job.task)[job.chunk]):
        images, trace = rows[rows["setting"] == point.label], traces.get(point.label)
        at = (job.task, job.method, job.prior, point.label)
        metrics = quality(images, experiment.seed) | costs
        for split, found in beside.items():
            own = found[found["setting"] == point.label]
            metrics |= {f"{split}_{name}": own[name].mean() for name in _compared(own)}
        settings = _settings(experiment, job, point)
        yield Record(
            group=common.group,
            kind="reconstruction",
            name=_name(job, point, len(experiment.priors_of(job.method)) > 1),
            key="/".join((experiment.name, *at)),
            settings=flat(settings),
            metrics=finite(metrics),
            curves=mean_curves(trace),
            tags=tags,
            marks={"selected_by": chosen.get(at, "-"), **common.marks},
            inputs=tuple(
                common.images[split]._replace(size=len(images)) for split in ("test",) if split in common.images
            ),
            artifacts={
                "reconstructions.png": partial(grid, layout, job, place),
                "settings.yaml": partial(write_settings, settings),
                **({"history.csv": partial(write_history, trace)} if trace is not None else {}),
                **facts.log_of(layout, step),
            },
            tables={"images.json": partial(_table, images)},
            started=facts.started(said),
            seconds=float(images["seconds"].sum()),
            call=facts.call_of(said),
        )


def _checkpoint(layout: Layout, job: Job, said: JobFacts | None) -> dict[str, str]:
    """Which weights a job read; those that lie there now may be others."""
    read = next((digest for path, digest in (said.inputs if said else {}).items() if path.endswith(WEIGHTS)), None)
    if read is not None:
        return {"checkpoint": read.partition(":")[2][:16]}
    if said is not None or job.prior not in layout.experiment.priors:
        return {}
    training = layout.experiment.training_of(job.prior, job.task)
    return {"checkpoint": checkpoint_digest(layout, training)} if layout.trained(training, "weights").exists() else {}


def quality(images: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Means over images with their 95 % intervals, and what an image costs.

    Args:
        images: rows of one setting.
        seed: of the experiment; the resamples follow from it, as in the report.
    """
    from flowprior.evaluation.aggregate import quality as means_of
    from flowprior.evaluation.selection import diverged

    told = [one for one in known(images) if one.name in images and images[one.name].notna().any()]
    means = means_of(images, told, seed)
    return {
        **{name: value for name, value in means.items() if not name.endswith("_std")},
        "seconds_per_image": images["seconds"].mean(),
        "passes": images["passes"].mean(),
        "n": len(images),
        "n_diverged": int(diverged(images).sum()),
        **({"converged": float(images["converged"].mean())} if "converged" in images else {}),
    }


def mean_curves(traces: pd.DataFrame | None) -> dict[str, Curve]:
    """Means over the images against the number of network passes; nothing for a method without steps."""
    if traces is None or traces["passes"].nunique() < 2:
        return {}
    names = (CHOSEN_BY, "loss", "data_fit", "neg_log_prob")
    means = means_along(traces, ("passes", *names))
    # Images that stopped early make steps of a part; of two within one step the later counts.
    means = means.groupby(means["passes"].round().astype(int)).last()
    curves = {
        f"trace/{name}": thinned(list(zip(means.index.tolist(), means[name].tolist(), strict=True))) for name in names
    }
    return {name: curve for name, curve in curves.items() if curve}


def _settings(experiment: Experiment, job: Job, point: Point) -> dict[str, Any]:
    """Everything that decides about the numbers."""
    return {
        "task": job.task,
        "method": job.method,
        "solver": experiment.solver_of(job.method),
        "prior": job.prior,
        "setting": point.label,
        **point.settings,
        "measurement": experiment.tasks[job.task].model_dump(),
        "dataset": f"{experiment.data.source}-{experiment.data.resolution}px",
        "bits": experiment.bits,
        "seed": experiment.seed,
    }


def write_history(trace: pd.DataFrame, target: Path) -> None:
    """Write every recorded step of every image as CSV."""
    # Thousands of lines for each of hundreds of settings: ten times as fast as by pandas.
    import pyarrow as pa
    from pyarrow import csv

    csv.write_csv(pa.Table.from_pandas(trace, preserve_index=False), target)


def _table(images: pd.DataFrame) -> pd.DataFrame:
    told = [one.name for one in known(images) if one.name in images]
    return images[["image", *told, "seconds", "passes", "status"]]


def _compared(images: pd.DataFrame) -> list[str]:
    return [one.name for one in compared(images)]


def _name(job: Job, point: Point, several: bool) -> str:
    prior = f" ({job.prior})" if several else ""
    setting = f" {point.label}" if point.label != "default" else ""
    return f"{job.task} {job.method}{prior}{setting}"
