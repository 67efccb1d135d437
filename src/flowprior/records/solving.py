"""Records of reconstructions: one per (task, method, prior, setting), over all its test images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flowprior.plan import Job, jobs
from flowprior.records import facts
from flowprior.records.pictures import grid
from flowprior.records.record import Curve, Record, finite, flat, thinned
from flowprior.records.training import checkpoint_digest
from flowprior.report.layout import Step

if TYPE_CHECKING:
    import pandas as pd

    from flowprior.params import Point
    from flowprior.report.layout import Layout

#: (task, method, prior, setting) -> how it was chosen, such as "validation,oracle".
Chosen = Mapping[tuple[str, str, str, str], str]


def solving_records(layout: Layout, group: str, chosen: Chosen) -> Iterator[Record]:
    """Of every setting whose job over the test images has ended.

    Args:
        layout: where the files lie.
        group: what they are listed with.
        chosen: which of them stand in the tables, and why; empty as long as nothing was evaluated.
    """
    import pandas as pd

    experiment = layout.experiment
    digests = {prior: _digest(layout, prior) for prior in experiment.priors}
    for _, split_jobs in groupby(jobs(experiment), key=lambda job: (job.task, job.method, job.prior)):
        of_split: dict[str, list[Job]] = {}
        for job in split_jobs:
            of_split.setdefault(job.split, []).append(job)
        found = [
            pd.read_parquet(path) for job in of_split.get("validation", []) if (path := _rows(layout, job)).exists()
        ]
        validation = pd.concat(found) if found else None
        for job in of_split["test"]:
            if _rows(layout, job).exists():
                yield from _of_job(layout, group, job, validation, digests.get(job.prior), chosen)


def _of_job(
    layout: Layout, group: str, job: Job, validation: pd.DataFrame | None, checkpoint: str | None, chosen: Chosen
) -> Iterator[Record]:
    import pandas as pd

    experiment, said = layout.experiment, facts.facts_of(layout.solved(job, "job.json"))
    rows = pd.read_parquet(_rows(layout, job))
    traces = dict(iter(pd.read_parquet(layout.solved(job, "traces.parquet")).groupby("setting", sort=False)))
    common = {
        **facts.job_tags(said, layout),
        **({"checkpoint": checkpoint} if checkpoint else {}),
        "mlflow.source.name": "workflow/rules/reconstruct.smk",
    }
    costs = facts.costs(said, layout.benchmark(Step.solving(job)))
    for place, point in enumerate(experiment.chunks(job.method, job.task)[job.chunk]):
        images = rows[rows["setting"] == point.label]
        if images.empty:  # of a sweep that has changed since: its job is to run again
            continue
        at = (job.task, job.method, job.prior, point.label)
        trace = traces.get(point.label)
        metrics = quality(images, experiment.seed) | costs
        if validation is not None:
            own = validation[validation["setting"] == point.label]
            metrics |= {f"validation_{name}": own[name].mean() for name in ("psnr", "ssim") if len(own)}
        yield Record(
            group=group,
            kind="reconstruction",
            name=_name(job, point, len(experiment.priors_of(job.method)) > 1),
            key="/".join((experiment.name, *at)),
            settings=flat(_settings(layout, job, point)),
            metrics=finite(metrics),
            curves=mean_curves(trace),
            tags=common,
            marks={"selected_by": chosen.get(at, "-")},
            inputs=facts.image_sets(layout, "test", count=len(images)),
            artifacts={
                "reconstructions.png": partial(grid, layout, job, place),
                "settings.yaml": partial(_write_settings, _settings(layout, job, point)),
                **({"history.csv": partial(write_history, trace)} if trace is not None else {}),
                **facts.log_of(layout, Step.solving(job)),
            },
            tables={"images.json": partial(_table, images)},
            started=facts.started(said),
            seconds=float(images["seconds"].sum()),
        )


def quality(images: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Means over images with their 95 % intervals, and what an image costs.

    Args:
        images: rows of one setting.
        seed: of the experiment; the resamples follow from it, as in the report.
    """
    from flowprior.evaluation.selection import diverged
    from flowprior.evaluation.statistics import capped, describe

    psnr = describe(capped(images["psnr"].to_numpy()), seed)
    ssim = describe(images["ssim"].to_numpy(), seed)
    return {
        **{"psnr": psnr.mean, "psnr_low": psnr.low, "psnr_high": psnr.high},
        **{"ssim": ssim.mean, "ssim_low": ssim.low, "ssim_high": ssim.high},
        "psnr_chavez2021": images["psnr_chavez2021"].mean(),
        "seconds_per_image": images["seconds"].mean(),
        "evaluations": images["evaluations"].mean(),
        "n": len(images),
        "n_diverged": int(diverged(images).sum()),
    }


def mean_curves(traces: pd.DataFrame | None) -> dict[str, Curve]:
    """Means over the images against the number of network evaluations; nothing for a method without steps."""
    if traces is None or traces["evaluations"].nunique() < 2:
        return {}
    means = traces.groupby("evaluations")[["psnr", "loss", "data_fit", "neg_log_prob"]].mean()
    steps = means.index.to_numpy(dtype=int)
    curves = {
        f"trace/{name}": thinned(list(zip(steps.tolist(), means[name].to_numpy(dtype=float).tolist(), strict=True)))
        for name in means.columns
    }
    return {name: curve for name, curve in curves.items() if curve}


def _settings(layout: Layout, job: Job, point: Point) -> dict[str, Any]:
    """Everything that decides about the numbers."""
    experiment, task = layout.experiment, layout.experiment.tasks[job.task]
    return {
        "task": job.task,
        "method": job.method,
        "solver": experiment.solver_of(job.method),
        "prior": job.prior,
        "setting": point.label,
        **point.settings,
        "measurement": task.model_dump(),
        "dataset": f"{experiment.data.source}-{experiment.data.resolution}px",
        "bits": experiment.bits,
        "seed": experiment.seed,
    }


def _write_settings(settings: dict[str, Any], target: Path) -> None:
    target.write_text(yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=False))


def write_history(trace: pd.DataFrame, target: Path) -> None:
    """Write every recorded step of every image as CSV."""
    # Thousands of lines for each of hundreds of settings: ten times as fast as by pandas.
    import pyarrow as pa
    from pyarrow import csv

    csv.write_csv(pa.Table.from_pandas(trace, preserve_index=False), target)


def _table(images: pd.DataFrame) -> pd.DataFrame:
    return images[["image", "psnr", "ssim", "psnr_chavez2021", "seconds", "evaluations", "status"]]


def _name(job: Job, point: Point, several: bool) -> str:
    prior = f" ({job.prior})" if several else ""
    setting = f" {point.label}" if point.label != "default" else ""
    return f"{job.task} {job.method}{prior}{setting}"


def _rows(layout: Layout, job: Job) -> Path:
    return layout.solved(job, "rows.parquet")


def _digest(layout: Layout, prior: str) -> str | None:
    return checkpoint_digest(layout, prior) if layout.flow(prior, "weights.safetensors").exists() else None
