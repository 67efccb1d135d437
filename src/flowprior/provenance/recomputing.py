"""Rows computed again: from the stored pictures, and by solving the same problem once more."""

from __future__ import annotations

import json
import math
import sys
import zipfile
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from flowprior.device import device_for, use_tensor_cores, use_threads
from flowprior.errors import FlowpriorError
from flowprior.evaluation.registry import CHOSEN_BY, METRICS
from flowprior.evaluation.rounding import psnr_interval, ssim_interval
from flowprior.experiment.inversion import Problem, invert, load_prior
from flowprior.experiment.layout import Layout
from flowprior.experiment.params import Experiment
from flowprior.experiment.parts import NO_PRIOR
from flowprior.experiment.plan import Job, fitted_priors
from flowprior.images.quantise import to_float
from flowprior.models.evaluator import runs_by_kernel
from flowprior.models.flows.base import Flow
from flowprior.provenance.job import JobFacts, device_name
from flowprior.provenance.machine import versions
from flowprior.provenance.source import commit

#: By how much the PSNR of an image may differ, in dB, when the same sums come in the same order: closed forms anywhere;
#: searches by Adam through the kernel where and by what they ran, alone or in a batch (measured: not at all).
SAME_SUMS = 0.01
#: And where they come in another: on another processor, by another package or commit, on a GPU, in L-BFGS alone and not
#: in a batch. A search of hundreds of steps carries a rounding far. Measured: L-BFGS up to 0.27 dB of 72 images,
#: `chavez` at a high rate up to 0.54 dB of 12 between two versions of the kernel. Most others stay below 0.01 dB.
OTHER_SUMS = 1.0
#: By how much other metrics of an image may differ then: values may lie on the edge of an interval.
CERTAINTY = 0.01
#: What reading a damaged file may raise, and a solver whose package is not installed.
UNREADABLE = (FlowpriorError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, ImportError)


@dataclass(frozen=True)
class Recomputed:
    """What became of one row.

    Attributes:
        solved: whether it was solved again.
        differences: one line for each thing that differs.
    """

    solved: bool
    differences: tuple[str, ...]


def sample(rows: pd.DataFrame, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows drawn at random, spread over tasks and methods: no pair has a second row before each has one.

    Args:
        rows: of an experiment.
        count: how many; fewer where there are not so many.
        seed: the same one draws the same rows.
    """
    random = np.random.default_rng(seed)
    draws = pd.Series(random.random(len(rows)))
    # The place of a row among those of its pair: all first ones come before all second ones, each in a random order.
    turns = draws.groupby([rows["task"].to_numpy(), rows["method"].to_numpy()]).rank(method="first")
    order = np.lexsort((random.random(len(rows)), turns.to_numpy()))[:count]
    return [{str(key): value for key, value in row.items()} for row in rows.iloc[order].to_dict("records")]


def recompute(layout: Layout, row: dict[str, Any], solve: bool) -> Recomputed:
    """Compare a row with its stored picture and, if asked, with what solving its problem again gives."""
    what = f"{row['task']} by {row['method']} ({row['prior']}), {row['setting']}, {row['split']} image {row['image']}"
    try:
        again = _Again.of(layout, row)
        differences = again.from_the_picture()
        if solve:
            differences += again.solved()
    except UNREADABLE as error:
        said = " ".join(str(error).split()) or type(error).__name__
        return Recomputed(False, (f"{what}: cannot be computed again: {said}",))
    return Recomputed(solve, tuple(f"{what}: {difference}" for difference in differences))


@dataclass(frozen=True)
class _Again:
    """A row, the problem it came from, and the picture that was left of it."""

    layout: Layout
    row: dict[str, Any]
    problem: Problem
    picture: np.ndarray
    job: Job

    @classmethod
    def of(cls, layout: Layout, row: dict[str, Any]) -> _Again:
        experiment = layout.experiment
        task, method, prior, split = (str(row[name]) for name in ("task", "method", "prior", "split"))
        chunk, number, point = _place(experiment, row)
        params = SimpleNamespace(
            experiment=experiment.name,
            dataset=row["dataset"],
            task_name=task,
            task=experiment.tasks[task].problem(),
            method=method,
            solver=experiment.solver_of(method),
            prior=prior,
            points=[point],
            split=split,
            number=experiment.images_of(method, split),
            batch=experiment.batch,
            bits=experiment.bits,
            seed=experiment.seed,
        )
        files = (layout.measurement(task, split), *layout.images(split))
        whole = Problem.read(*files, params)
        if row["image"] not in whole.names:
            raise FlowpriorError(f"no such image among the {len(whole.names)} of {files[0]}")
        i = whole.names.index(row["image"])
        job = Job(task, method, prior, split, chunk)
        pictures = np.load(layout.solved(job, "images"), mmap_mode="r", allow_pickle=False)
        problem = Problem(whole.names[i : i + 1], whole.y[i : i + 1], whole.truth[i : i + 1], params)
        return cls(layout, row, problem, np.array(pictures[number, i : i + 1]), job)

    def from_the_picture(self) -> list[str]:
        """Whether PSNR and SSIM can be those of the image that was rounded to the picture."""
        stored = to_float(self.picture)
        differences = []
        for name, between in (("psnr", psnr_interval), ("ssim", ssim_interval)):
            low, high = (bound.item() for bound in between(stored, self.problem.truth))
            value = float(self.row[name])
            # What diverged before its first finite iterate has no value, and says so in its status.
            if math.isnan(value) and self.row["status"] != "ok":
                continue
            if not low <= value <= high:
                differences.append(f"{name} {value:.4f}, but its picture says {low:.4f} to {high:.4f}")
        return differences

    def solved(self) -> list[str]:
        """Whether the same problem, solved alone, gives the same PSNR."""
        facts, name = JobFacts.read(self.layout.solved(self.job, "job")), str(self.row["prior"])
        # Where this machine has no GPU the CPU solves it again, within the tolerance of other sums.
        was_gpu = facts is not None and facts.device.startswith("cuda")
        by_gpu = was_gpu and torch.cuda.is_available()
        if facts is not None and was_gpu and not by_gpu:
            print(
                f"flowprior: {self.row['task']} by {self.row['method']} came from {facts.device}, and this machine has "
                f"no such GPU; the CPU solves it again (tolerance {OTHER_SUMS} dB)",
                file=sys.stderr,
            )
        device = device_for(int(by_gpu))
        use_tensor_cores(device)
        use_threads(facts.threads if facts else 1)
        files = {}
        if name in fitted_priors(self.layout.experiment):
            files["fitted"] = str(self.layout.fitted(name))
        elif name != NO_PRIOR:
            training = self.layout.experiment.training_of(name, str(self.row["task"]))
            files["weights"] = str(self.layout.trained(training, "weights"))
        prior = load_prior(name, files)
        tolerance = SAME_SUMS if self._same_sums(prior, facts) else OTHER_SUMS
        found = invert(self.problem, prior, device).rows.iloc[0]
        before, after = float(self.row[CHOSEN_BY]), float(found[CHOSEN_BY])
        # Twice infinite or twice no number is the same.
        same = before == after or abs(before - after) <= tolerance or (math.isnan(before) and math.isnan(after))
        differences = []
        if not same:
            differences.append(f"psnr {before:.4f}, but {after:.4f} when solved again (tolerance {tolerance} dB)")
        if tolerance == SAME_SUMS:
            differences += self._other_metrics(found)
        if found["status"] != self.row["status"]:
            differences.append(f"status {self.row['status']}, but {found['status']} when solved again")
        return differences

    def _other_metrics(self, found: Any) -> list[str]:
        """Whether all other metrics are as they were, of those that the row has."""
        differences = []
        for name in (
            one.name for one in METRICS if one.name != CHOSEN_BY and one.name in self.row and one.name in found
        ):
            before, after = float(self.row[name]), float(found[name])
            if not (abs(before - after) <= CERTAINTY or before == after or (math.isnan(before) and math.isnan(after))):
                differences.append(f"{name} {before:.4f}, but {after:.4f} when solved again (tolerance {CERTAINTY})")
        return differences

    def _same_sums(self, prior: object, facts: JobFacts | None) -> bool:
        """Whether solving this image alone and here rounds as its job did."""
        if not isinstance(prior, nn.Module):
            return True
        (point,) = self.problem.params.points
        source = commit(self.layout.root)
        return (
            facts is not None
            and facts.device == device_name(gpu=False)
            and facts.versions == versions()
            and (facts.commit, facts.diff) == (source.name, source.diff)
            and point["settings"].get("optimiser") != "lbfgs"
            and isinstance(prior, Flow)
            and runs_by_kernel(prior)
        )


def _place(experiment: Experiment, row: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """Chunk of a row's setting, its number in the chunk, and the setting itself."""
    if row["method"] not in experiment.methods or row["task"] not in experiment.tasks_of(row["method"]):
        raise FlowpriorError("the settings have no such method on this task")
    place = experiment.place_of(row["method"], row["task"], row["setting"])
    if place is None:
        raise FlowpriorError("the experiment has no such setting")
    point = experiment.chunks(row["method"], row["task"])[place[0]][place[1]]
    if json.loads(row["settings"]) != json.loads(json.dumps(point.settings)):
        raise FlowpriorError("the row's settings are not those of the experiment")
    return *place, point._asdict()
