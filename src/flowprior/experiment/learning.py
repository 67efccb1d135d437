"""One job of training: from prepared images to a checkpoint, its history and its samples.

In one process, or in several that share each batch: `learn_together` starts them by torchrun, one per GPU.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowprior import models, operators
from flowprior.device import device_for, use_tensor_cores, use_threads
from flowprior.errors import FlowpriorError, one_line_errors
from flowprior.experiment.artefacts import LEAVES
from flowprior.experiment.parts import PriorSettings
from flowprior.files import replacing
from flowprior.models.beginning import begin_with
from flowprior.models.capabilities import Decodes
from flowprior.models.checkpoint import save_model
from flowprior.models.evaluator import evaluator
from flowprior.models.flows.base import Flow
from flowprior.models.gaussian import MAX_DIMENSIONS
from flowprior.models.moments import sample_moments, write_moments
from flowprior.models.weights import weights_digest
from flowprior.operators.task import TaskSettings
from flowprior.progress import Progress
from flowprior.solvers.map import MAP
from flowprior.training.energy import ENERGY_SCORE
from flowprior.training.grids import save_grid
from flowprior.training.loop import train
from flowprior.training.quality import sample_quality
from flowprior.training.ranks import joined_ranks
from flowprior.training.trainable import Task, trainable_of


@dataclass(frozen=True)
class TrainingJob:
    """What is learned from what, and where it goes.

    Attributes:
        images: training images, uint8 .npy (N, H, W, C).
        validation: validation images, likewise.
        folder: gets what `flowprior.experiment.artefacts` names, but for the facts of the job.
        state: where a killed run leaves what it goes on from; removed at the end.
        prior: `PriorSettings` as a dict.
        bits: grey levels per channel, 2^bits.
        seed: seed of the experiment.
        threads: CPU cores of this job.
        gpus: GPUs of this job; 0: train on the CPU.
        name: how people are told of it.
        task: `TaskSettings` as a dict, of a model that is trained for one task.
        task_name: that task's.
        begin: folder of the model with whose weights this one begins.
    """

    images: str
    validation: str
    folder: str
    state: str
    prior: dict[str, Any]
    bits: int
    seed: int
    threads: int
    gpus: int = 0
    name: str = ""
    task: dict[str, Any] | None = None
    task_name: str = ""
    begin: str | None = None

    def task_for(self, shape: tuple[int, int, int]) -> Task | None:
        """The task with its operator, for images of one shape."""
        if self.task is None:
            return None
        settings = TaskSettings(**self.task)
        return Task(self.task_name, operators.build(settings.operator, shape, **settings.settings), settings)


def learn(lesson: TrainingJob) -> None:
    """Train in this process, with those that torchrun started beside it."""
    prior, folder = PriorSettings(**lesson.prior), Path(lesson.folder)
    pixels, validation = np.load(lesson.images, mmap_mode="r"), np.load(lesson.validation)
    device = _own_device(lesson.gpus)
    use_tensor_cores(device)
    with joined_ranks(device) as ranks:
        threads = max(1, lesson.threads // ranks.size)
        use_threads(threads)
        torch.manual_seed(lesson.seed)
        shape = (pixels.shape[3], *pixels.shape[1:3])
        model = models.build(prior.model, shape, **prior.settings)
        if lesson.begin is not None:
            first = models.load(Path(lesson.begin))
            begin_with(model, first, weights_digest(first))
        model = model.to(device)
        name = lesson.name or folder.name
        progress = Progress(f"train {name}", prior.training.steps) if ranks.writes else None
        task, key = lesson.task_for(shape), (lesson.seed, "train")
        trained = train(
            model,
            pixels,
            validation,
            lesson.bits,
            prior.training,
            key,
            Path(lesson.state),
            progress,
            threads if device.type == "cpu" else 1,
            ranks,
            task,
        )
    if not ranks.writes:
        return
    model = trained.model.cpu()
    trainable = trainable_of(model, prior.training, lesson.bits, task)
    grid = trainable.grid(model, validation, lesson.seed)
    facts = {"bits": lesson.bits, **grid.facts, "training": prior.training.model_dump()}
    if isinstance(model, Decodes) and ENERGY_SCORE not in trained.facts:
        # Of every model that makes images the same number, so that flows and generators stand beside each other.
        found = sample_quality(model, trainable, validation, key)
        facts |= {ENERGY_SCORE: found} if math.isfinite(found) else {}
    if lesson.task is not None:
        facts["task"] = {"name": lesson.task_name, **lesson.task}
    save_model(folder, model, {**trained.facts, **facts})
    left = LEAVES["train"].files
    if isinstance(model, Flow):
        _leave_moments(folder / left["moments"], model, lesson.seed)
    with replacing(folder / left["history"]) as path:
        path.write_text("".join(json.dumps(record) + "\n" for record in trained.history))
    with replacing(folder / left["samples"]) as path:
        np.save(path, grid.rows)
    save_grid(grid.rows, folder / left["picture"])
    # The run is whole: asked for again, it is to be made again, not taken up where it ended.
    shutil.rmtree(lesson.state, ignore_errors=True)


def _leave_moments(path: Path, flow: Flow, seed: int) -> None:
    """The Gaussian of the flow's samples, as searches by default begin with it."""
    samples: int = MAP.Settings.model_fields["samples"].default
    drawn = None
    if flow.dimensions <= MAX_DIMENSIONS:
        with evaluator(flow) as asked:
            drawn = sample_moments(asked, samples, seed)
    write_moments(path, flow, drawn, samples, seed)


def learn_together(lesson: TrainingJob, processes: int) -> None:
    """Train in several processes of this machine, which share each batch; with one, in this process.

    Raises:
        FlowpriorError: a process failed; its own lines stand above.
    """
    if processes <= 1:
        learn(lesson)
        return
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "lesson.json"
        spec.write_text(json.dumps(asdict(lesson)))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        run = subprocess.Popen(
            [*command, "-m", "flowprior.experiment.learning", str(spec)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert run.stdout is not None
        for line in run.stdout:
            print(line, end="", file=sys.stderr)
        if run.wait():
            raise FlowpriorError(f"training in {processes} processes ended with status {run.returncode}; see its log")


def _own_device(gpus: int) -> torch.device:
    """The CPU, or of several GPUs the one of this process."""
    device = device_for(gpus)
    if device.type == "cuda" and gpus > 1:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


if __name__ == "__main__":
    with one_line_errors():
        learn(TrainingJob(**json.loads(Path(sys.argv[1]).read_text())))
