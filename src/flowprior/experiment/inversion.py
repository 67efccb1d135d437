"""One job of inversion: a method on a task at several settings, from files to rows.

The place where images, operators, models and solvers meet; each of them knows nothing of the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from flowprior import models, operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.evaluation.metrics import psnr
from flowprior.evaluation.registry import available
from flowprior.experiment.maps import Collector, Maps
from flowprior.images import load
from flowprior.images.quantise import targets, to_pixels
from flowprior.operators.task import TaskSettings
from flowprior.progress import Progress
from flowprior.solvers.base import Result


@dataclass(frozen=True)
class Problem:
    """Measurements, truth, and what is to be done with them.

    Attributes:
        names: identity of each image.
        y: measurements (N, ...).
        truth: images (N, C, H, W) in [0, 1], for metrics alone; no solver sees it.
        params: the rule's parameters: experiment, dataset, task_name, task, method, solver, prior, points, split,
            batch, bits, seed.
    """

    names: tuple[str, ...]
    y: Tensor
    truth: Tensor
    params: Any

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        _, channels, height, width = self.truth.shape
        return channels, height, width

    @classmethod
    def read(cls, measurement: Path, images: Path, manifest: Path, params: Any) -> Problem:
        """Read measurements and truth, the first `params.number` images of the split."""
        with np.load(measurement, allow_pickle=False) as arrays:
            names = tuple(str(name) for name in arrays["names"][: params.number])
            y = torch.from_numpy(arrays["y"][: params.number])
        found = load(images, manifest, params.number)
        if names != found.names:
            raise FlowpriorError(f"{measurement} was made of other images than {images}; make the measurements again")
        truth = targets(found.pixels, names, params.bits, (params.seed, params.dataset))
        return cls(names, y, truth, params)


@dataclass(frozen=True)
class Inverted:
    """What a job leaves: rows, traces, pictures uint8 (settings, N, H, W, C), and how sure its method is of them."""

    rows: pd.DataFrame
    traces: pd.DataFrame
    images: np.ndarray
    maps: Maps


def load_prior(name: str, files: dict[str, str]) -> Any:
    """The prior of a job: a fitted model, one by its weights, or none.

    Args:
        name: of the prior.
        files: "fitted" or "weights", or neither, and where that lies.
    """
    if "fitted" in files:
        return models.REGISTRY.get(name).load(Path(files["fitted"]))
    return models.load(Path(files["weights"]).parent) if "weights" in files else None


def invert(problem: Problem, prior: Any, device: torch.device) -> Inverted:
    """Solve every setting of the job on all its images, in batches."""
    params = problem.params
    task = TaskSettings(**params.task)
    operator = operators.build(task.operator, problem.shape, **task.settings)
    if isinstance(prior, nn.Module):
        prior = prior.to(device)
    count = len(problem.names)
    rows, traces, collector = [], [], Collector(count)
    pictures = np.empty((len(params.points), count, *problem.truth.permute(0, 2, 3, 1).shape[1:]), dtype=np.uint8)
    progress = Progress(f"{params.task_name} by {params.method}, {params.split}", len(params.points) * count)
    truth = problem.truth.to(device)
    parts = solvers.solve_points(
        params.solver,
        operator,
        problem.y.to(device),
        prior,
        [point["settings"] for point in params.points],
        keys=problem.names,
        seed=params.seed,
        batch=params.batch,
        observer=lambda numbers: lambda images: {"psnr": psnr(images, truth[numbers.to(device)], 1.0)},
        progress=lambda part: progress.update(int(part * len(params.points) * count)),
    )
    for solved in parts:
        point, part = params.points[solved.point], solved.images
        rows.append(_rows(problem, point, part, solved.result, truth[part]))
        traces.append(_traces(problem, point, part, solved.result))
        pictures[solved.point, part] = to_pixels(solved.result.images)
        collector.add(solved.point, part, solved.result)
    maps = collector.maps()
    return Inverted(pd.concat(rows, ignore_index=True), pd.concat(traces, ignore_index=True), pictures, maps)


def _rows(problem: Problem, point: Any, part: slice, result: Result, truth: Tensor) -> pd.DataFrame:
    params = problem.params
    images = result.images
    return pd.DataFrame(
        {
            "experiment": params.experiment,
            "dataset": params.dataset,
            "split": params.split,
            "image": problem.names[part],
            "task": params.task_name,
            "method": params.method,
            "solver": params.solver,
            "prior": params.prior,
            "setting": point["label"],
            "settings": json.dumps(point["settings"], sort_keys=True),
            "paper": bool(point["paper"]),
            "bits": params.bits,
            "seed": params.seed,
            **{metric.name: metric.of(result, truth).cpu().numpy() for metric in available()},
            "seconds": result.seconds / len(images),
            "passes": result.passes.double().cpu().numpy(),
            "status": result.status,
            "converged": result.converged.numpy(),
        }
    )


def _traces(problem: Problem, point: Any, part: slice, result: Result) -> pd.DataFrame:
    params, trace, names = problem.params, result.trace, problem.names[part]
    steps, count = len(trace.seconds), len(names)
    absent = torch.full((steps, count), float("nan"))
    columns = {
        key: trace.values.get(key, absent).double().flatten().numpy()
        for key in ("psnr", "loss", "data_fit", "neg_log_prob")
    }
    return pd.DataFrame(
        {
            "task": params.task_name,
            "method": params.method,
            "prior": params.prior,
            "split": params.split,
            "setting": point["label"],
            "image": np.tile(np.array(names), steps),
            "passes": np.repeat(trace.passes.double().numpy(), count),
            "seconds": np.repeat(trace.seconds.double().numpy() / count, count),
            **columns,
        }
    )
