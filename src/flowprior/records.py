"""What an experiment's files say about its runs, in a form that any tracking tool could take.

One record per training and one per (task, method, prior, setting). Records are read from files alone; nothing
here knows which tool they go to.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowprior.params import Experiment
from flowprior.report.layout import Layout

if TYPE_CHECKING:
    import pandas as pd

#: More points than this make a tracking tool's pages slow and show nothing more.
CURVE_POINTS = 200
#: Test images on the grid of a record.
GRID_IMAGES = 8

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        group: what it is compared with: "<experiment>/training" or "<experiment>/<task>".
        name: short, for a list of runs.
        key: identity within all groups; the same run of the pipeline always has the same.
        settings: flat settings.
        metrics: final numbers; what is not finite is left out.
        curves: name -> (step, value) along the way.
        tags: facts to filter by.
        artifacts: file name -> function that writes the file.
    """

    group: str
    name: str
    key: str
    settings: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, Callable[[Path], object]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Changes whenever what was measured changes."""
        facts: list[Any] = [self.group, self.name, self.key]
        facts += [dict(part) for part in (self.settings, self.metrics, self.curves, self.tags)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def records_of(experiment: Experiment, root: Path = Path()) -> Iterator[Record]:
    """Every record of an experiment that has been evaluated.

    Args:
        experiment: what ran.
        root: the repository root.

    Raises:
        FileNotFoundError: a step before has not run.
    """
    import pandas as pd

    layout = Layout(experiment, root)
    for prior in experiment.priors:
        yield training_record(layout, prior)
    rows = pd.read_parquet(layout.results / "rows.parquet")
    traces = pd.read_parquet(layout.results / "traces.parquet")
    summary = pd.read_csv(layout.results / "summary.csv")
    yield from setting_records(layout, rows, traces, summary)


def training_record(layout: Layout, prior: str) -> Record:
    """The training of one flow."""
    experiment = layout.experiment
    config = json.loads(layout.flow(prior, "config.json").read_text())
    history = [json.loads(line) for line in layout.flow(prior, "history.jsonl").read_text().splitlines()]
    curves = {
        name: thinned([(int(row["step"]), float(row[name])) for row in history if row.get(name) is not None])
        for name in ("loss_bits_per_dim", "validation_bits_per_dim", "learning_rate")
    }
    numbers = {name: config[name] for name in ("bits_per_dim", "parameters", "steps", "seconds") if name in config}
    files = ("samples.png", "config.json", "history.jsonl")
    return Record(
        group=f"{experiment.name}/training",
        name=prior,
        key=f"{experiment.name}/training/{prior}",
        settings=flat(
            {
                "prior": experiment.priors[prior].model_dump(),
                "data": experiment.data.model_dump(),
                "bits": experiment.bits,
                "seed": experiment.seed,
            }
        ),
        metrics=finite(numbers),
        curves={name: curve for name, curve in curves.items() if curve},
        tags={"kind": "training", "prior": prior, "flow": experiment.priors[prior].flow},
        artifacts={file: partial(shutil.copyfile, layout.flow(prior, file)) for file in files},
    )


def setting_records(
    layout: Layout, rows: pd.DataFrame, traces: pd.DataFrame, summary: pd.DataFrame
) -> Iterator[Record]:
    """One record per (task, method, prior, setting), with numbers from the test images."""
    from flowprior.evaluation.selection import LINE, setting_means

    experiment = layout.experiment
    key = [*LINE, "setting"]
    means = {tuple(line[name] for name in (*key, "split")): line for line in setting_means(rows).to_dict("records")}
    chosen: dict[tuple[str, ...], list[str]] = {}
    for line in summary[[*key, "selected_by"]].itertuples(index=False, name=None):
        chosen.setdefault(line[:-1], []).append(line[-1])
    points = dict(iter(traces[traces["split"] == "test"].groupby(key, sort=False)))
    for names, group in rows[rows["split"] == "test"].groupby(key, sort=False):
        task, method, prior, setting = at = tuple(str(name) for name in names)
        metrics = {name: means[*at, "test"][name] for name in _SOLVED}
        metrics["psnr_chavez2021"] = group["psnr_chavez2021"].mean()
        if (validation := means.get((*at, "validation"))) is not None:
            metrics |= {f"validation_{name}": validation[name] for name in ("psnr", "ssim")}
        solved = {
            "solver": str(group["solver"].iloc[0]),
            "prior": prior,
            **json.loads(str(group["settings"].iloc[0])),
            "task": experiment.tasks[task].model_dump(),
            "dataset": str(group["dataset"].iloc[0]),
            "bits": experiment.bits,
            "seed": experiment.seed,
        }
        tags = dict(zip(key, at, strict=True)) | {"selected_by": ",".join(chosen.get(at, [])) or "-"}
        yield Record(
            group=f"{experiment.name}/{task}",
            name=f"{method} {setting}" + ("" if prior in ("none", "gaussian") else f" ({prior})"),
            key="/".join((experiment.name, *at)),
            settings=flat(solved),
            metrics=finite(metrics),
            curves=mean_curves(points.get(names)),
            tags={"kind": "reconstruction", **tags},
            artifacts={
                "reconstructions.png": partial(grid, layout, at),
                "images.csv": partial(group.to_csv, index=False),
            },
        )


_TRAINED = ("bits_per_dim", "parameters", "steps", "seconds")
_SOLVED = ("psnr", "ssim", "seconds_per_image", "evaluations", "n", "n_diverged")


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


def grid(layout: Layout, at: tuple[str, ...], target: Path) -> None:
    """Write a picture: targets, measurements and reconstructions of a few test images, one row each.

    Args:
        layout: where the files lie.
        at: task, method, prior and the setting's label.
        target: PNG file to write.
    """
    import numpy as np
    from PIL import Image

    from flowprior.report.grids import picture, quantised, spread

    task, method, prior, setting = at
    chunks = layout.experiment.chunks(method, task)
    chunk, place = next(
        (i, j) for i, points in enumerate(chunks) for j, point in enumerate(points) if point.label == setting
    )
    solved = np.load(layout.images(task, method, prior, chunk), mmap_mode="r", allow_pickle=False)[place]
    truth = np.load(layout.prepared("test.npy"), mmap_mode="r", allow_pickle=False)
    with np.load(layout.measurement(task), allow_pickle=False) as archive:
        measured = archive["y"]
    height, width = truth.shape[1:3]
    strips = []
    for i in spread(len(solved), GRID_IMAGES):
        shown = Image.fromarray(picture(measured[i])).resize((width, height), Image.Resampling.NEAREST)
        strips.append(np.concatenate([quantised(truth[i], layout.experiment.bits), np.asarray(shown), solved[i]]))
    sheet = Image.fromarray(np.concatenate(strips, axis=1))
    scale = max(1, 128 // height)
    sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST).save(target)


def thinned(points: Sequence[tuple[int, float]], count: int = CURVE_POINTS) -> Curve:
    """At most `count` of the points, spread evenly, first and last kept, those that are not finite left out.

    Example:
        >>> thinned([(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (4, 5.0)], count=3)
        ((0, 1.0), (2, 3.0), (4, 5.0))
    """
    points = [point for point in points if math.isfinite(point[1])]
    if len(points) <= count:
        return tuple(points)
    return tuple(points[round(i * (len(points) - 1) / (count - 1))] for i in range(count))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings with dotted names, values as text.

    Example:
        >>> flat({"training": {"steps": 10}, "bits": 8})
        {'training.steps': '10', 'bits': '8'}
    """
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = str(value)
    return found


def finite(numbers: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that are finite, as floats."""
    return {name: float(value) for name, value in numbers.items() if math.isfinite(float(value))}
