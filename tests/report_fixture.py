"""A whole results tree made up without training or solving anything: small, and consistent in itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from flowprior import operators
from flowprior.evaluation import evaluate
from flowprior.evaluation.registry import available
from flowprior.experiment.layout import Step
from flowprior.experiment.maps import Maps
from flowprior.experiment.params import Experiment
from flowprior.experiment.plan import is_baseline, jobs
from flowprior.images.quantise import to_float, to_pixels
from flowprior.provenance.job import JobFacts
from flowprior.report import Layout

SIDE = 16
#: In which all jobs ran.
CALL = {
    "name": "20260102-030405-abcdef",
    "started": "2026-01-02T03:04:05+00:00",
    "command": "snakemake --configfile params/tiny.yaml",
}
TRACE_POINTS = 6


def tiny_experiment(**changes) -> Experiment:
    """Two tasks and four methods, one of which solves fewer images; sweeps over numbers and over words."""
    settings = {
        "name": "tiny",
        "title": "Tiny & <quick>",
        "seed": 3,
        "data": {"source": "photos", "resolution": SIDE},
        "priors": {"flow_a": {"flow": "haar_glow", "settings": {"levels": 2}}},
        "tasks": {
            "denoising": {"operator": "identity", "noise_std": 0.1},
            "colorization": {"operator": "channel_mean"},
        },
        "methods": {
            "map": {
                "sweep": {"noise_std": [0.05, 0.1], "start": ["measurement", "zero_latent"]},
                "images": 9,
            },
            "chavez": {
                "sweep": {"alpha": [0.0, 0.02, 0.05]},
                "tasks": {"denoising": {"paper": {"alpha": 0.05}}, "colorization": {"paper": {"alpha": 0.3}}},
            },
            "linear_mmse": {"sweep": {"noise_std": [0.05, 0.1]}},
            "bm3d": {"tasks": ["denoising"]},
        },
        "validation_images": 5,
        "test_images": 12,
        "chunk": 2,
        "reference": "chavez2021",
    }
    return Experiment.model_validate({**settings, **changes})


def fabricate(root: Path, experiment: Experiment, images: dict[str, np.ndarray] | None = None) -> None:
    """Write everything that a report reads, below `root`.

    Args:
        root: stands for the repository root.
        experiment: whose results.
        images: split -> uint8 (N, H, W, 3); default: coloured gradients.
    """
    layout = Layout(experiment, root)
    images = images or {split: _gradients(split, _count(experiment, split)) for split in experiment.solved_splits}
    _write_prepared(layout, images)
    for prior in experiment.priors:
        _write_flow(layout, prior)
        _write_job(layout, Step.training(prior))
    for task in experiment.tasks:
        for split in experiment.solved_splits:
            _write_measurement(layout, task, split, images[split][: _count(experiment, split)])
    rows, traces = [], []
    for job in jobs(experiment):
        points = experiment.chunks(job.method, job.task)[job.chunk]
        n = experiment.images_of(job.method, job.split)
        target = to_float(images[job.split][:n], experiment.bits)
        solved = []
        for point in points:
            restored = _restored(target, job.task, job.method, job.prior, job.split, point.settings)
            solved.append(to_pixels(restored))
            rows.append(_rows(experiment, job, point, target, restored))
            traces.append(_traces(job, point, rows[-1]))
        path = layout.solved(job, "images")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.stack(solved))
        maps_of(experiment, job, np.stack(solved)).save(layout.solved(job, "maps"))
        for kind, tables in (("rows", rows), ("traces", traces)):
            own = pd.concat(tables[-len(points) :], ignore_index=True)
            own.to_parquet(layout.solved(job, kind), index=False)
        _write_job(layout, Step.solving(job))
    write_evaluation(layout, pd.concat(rows, ignore_index=True), pd.concat(traces, ignore_index=True))
    _write_benchmarks(layout)


def maps_of(experiment: Experiment, job, solved: np.ndarray) -> Maps:
    """What linear_posterior says of its images; other methods say nothing."""
    if experiment.solver_of(job.method) != "linear_posterior":
        return Maps()
    std = {i: np.full(images.shape, 0.05, np.float16) for i, images in enumerate(solved)}
    return Maps(std, {i: np.stack([images, 255 - images], axis=1) for i, images in enumerate(solved)})


def write_evaluation(layout: Layout, rows: pd.DataFrame, traces: pd.DataFrame) -> None:
    """What rule evaluate leaves."""
    summary, paired, metrics, sets = evaluate(rows, layout.experiment.seed)
    rows.to_parquet(layout.evaluated("rows"), index=False)
    traces.to_parquet(layout.evaluated("traces"), index=False)
    summary.to_csv(layout.evaluated("summary"), index=False)
    paired.to_csv(layout.evaluated("paired"), index=False)
    sets.to_csv(layout.evaluated("sets"), index=False)
    (layout.evaluated("metrics")).write_text(json.dumps(metrics, allow_nan=False))


def _count(experiment: Experiment, split: str) -> int:
    return experiment.measured_images(split)


def _random(*key: object) -> np.random.Generator:
    return np.random.default_rng(int(hashlib.sha256(repr(key).encode()).hexdigest()[:12], 16))


def _gradients(split: str, n: int) -> np.ndarray:
    y, x = np.mgrid[0 : 1 : SIDE * 1j, 0 : 1 : SIDE * 1j]
    phase = _random(split).uniform(0, 6, size=(n, 1, 1, 3))
    waves = np.sin(phase + 5 * x[None, :, :, None] * phase / 3 + 3 * y[None, :, :, None])
    return np.round(127.5 + 120 * waves).astype(np.uint8)


def _names(split: str, n: int) -> list[str]:
    return [f"{split}_{i:03d}.png" for i in range(n)]


def _write_prepared(layout: Layout, images: dict[str, np.ndarray]) -> None:
    for name in layout.experiment.test_sets:
        path, manifest = layout.images(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, images[name])
        manifest.write_text(json.dumps({"splits": {"test": {"names": _names(name, len(images[name]))}}}))
    images = {split: pixels for split, pixels in images.items() if split not in layout.experiment.test_sets}
    layout.prepared("test").parent.mkdir(parents=True, exist_ok=True)
    for split, pixels in images.items():
        np.save(layout.prepared(split), pixels)
    manifest = {
        "source": {"name": "photos", "sha256": "5c" * 32},
        "sizes": {split: len(pixels) for split, pixels in images.items()},
        "unreadable": [],
        "splits": {
            split: {
                "count": len(pixels),
                "shape": list(pixels.shape),
                "sha256": hashlib.sha256(layout.prepared(split).read_bytes()).hexdigest(),
                "names": _names(split, len(pixels)),
            }
            for split, pixels in images.items()
        },
    }
    layout.prepared("manifest").write_text(json.dumps(manifest))


def _write_flow(layout: Layout, prior: str) -> None:
    layout.flow(prior, "weights").parent.mkdir(parents=True, exist_ok=True)
    temperatures = [0.0, 0.4, 0.8, 1.2]
    side = layout.experiment.data.resolution
    samples = np.stack(
        [
            128 + 90 * t * _random(prior, t).normal(size=(16, 4, 4, 3)).repeat(side // 4, 1).repeat(side // 4, 2)
            for t in temperatures
        ]
    )
    np.save(layout.flow(prior, "samples"), samples.clip(0, 255).astype(np.uint8))
    config = {
        "flow": "haar_glow",
        "bits": 8,
        "parameters": 241234,
        "bits_per_dim": 4.287,
        "energy_score": 0.1234,
        "steps": 2000,
        "seconds": 182.0,
        "temperatures": temperatures,
    }
    layout.flow(prior, "config").write_text(json.dumps(config))
    noise = _random(prior, "history").normal(size=200) * 0.05
    lines = [
        {
            "step": 10 * i,
            "seconds": 0.9 * i,
            "loss_bits_per_dim": 4.2 + 4 * np.exp(-i / 12) + noise[i],
            "validation_bits_per_dim": 4.25 + 4 * np.exp(-i / 12) if i % 25 == 0 and i else None,
            "learning_rate": 1e-3,
            "images_per_second": 300.0,
        }
        for i in range(200)
    ]
    layout.flow(prior, "history").write_text("\n".join(json.dumps(line) for line in lines) + "\n")


def _write_measurement(layout: Layout, task: str, split: str, pixels: np.ndarray) -> None:
    y = to_float(pixels, layout.experiment.bits).numpy()
    if task == "colorization":
        y = y.mean(axis=1, keepdims=True)
    elif task == "sensing":
        settled = layout.experiment.tasks[task]
        y = operators.build(settled.operator, y.shape[1:], **settled.settings).A(torch.from_numpy(y)).numpy()
    elif task == "inpainting":
        y = y.copy()
        side = y.shape[-1]
        y[:, :, int(0.3 * side) : int(0.7 * side), int(0.3 * side) : int(0.7 * side)] = 0
    else:
        y = (y + 0.1 * _random(task, split).normal(size=y.shape)).astype(np.float32)
    layout.measurement(task, split).parent.mkdir(parents=True, exist_ok=True)
    np.savez(layout.measurement(task, split), y=y, names=np.array(_names(split, len(y))))


def _restored(target, task, method, prior, split, settings) -> torch.Tensor:
    """The target with noise whose size depends on the method and on how far the setting is from its best."""
    level = 0.02 + 0.03 * _random(task, method, prior, "level").uniform()
    for key in ("alpha", "gamma", "noise_std"):
        if key in settings:
            level += 0.02 * abs(np.log10((settings[key] + 0.004) / 0.05))
    noise = _random(task, method, split, sorted(settings.items(), key=str)).normal(size=target.shape)
    difficulty = _random(task, split).uniform(0.7, 1.6, size=(len(target), 1, 1, 1))
    return (target + torch.from_numpy(level * difficulty * noise).float()).clamp(0, 1)


def _rows(experiment, job, point, target, restored) -> pd.DataFrame:
    n = len(target)
    iterative = job.prior in experiment.priors
    return pd.DataFrame(
        {
            "experiment": experiment.name,
            "dataset": f"{experiment.data.source}-{experiment.data.resolution}px",
            "split": job.split,
            "image": _names(job.split, n),
            "task": job.task,
            "method": job.method,
            "solver": experiment.solver_of(job.method),
            "prior": job.prior,
            "baseline": is_baseline(experiment, job.method),
            "setting": point.label,
            "settings": json.dumps(point.settings),
            "paper": point.paper,
            "bits": experiment.bits,
            "seed": experiment.seed,
            **{
                one.name: one.of(SimpleNamespace(images=restored), target).numpy()
                for one in available()
                if one.needs == "images"
            },
            "coverage": 0.875 if experiment.solver_of(job.method) == "linear_posterior" else np.nan,
            "crps": 0.025 if experiment.solver_of(job.method) == "linear_posterior" else np.nan,
            "seconds": 0.4 + 0.2 * _random(job.method).uniform() if iterative else 0.003,
            "passes": 150 if iterative else 0,
            "status": "ok",
        }
    )


def _traces(job, point, rows: pd.DataFrame) -> pd.DataFrame:
    steps = np.linspace(1 / TRACE_POINTS, 1, TRACE_POINTS) if rows["passes"].iloc[0] else np.array([1.0])
    parts = [
        pd.DataFrame(
            {
                "task": job.task,
                "method": job.method,
                "prior": job.prior,
                "split": job.split,
                "setting": point.label,
                "image": row.image,
                "passes": row.passes * steps,
                "seconds": row.seconds * steps,
                "psnr": row.psnr - 12 * (1 - steps) ** 2,
                "loss": 100 * (1.2 - steps),
                "data_fit": 1.0,
                "neg_log_prob": np.nan,
            }
        )
        for row in rows.itertuples()
    ]
    return pd.concat(parts)


def _params_of(experiment: Experiment, step: Step) -> dict:
    common = {"bits": experiment.bits, "seed": experiment.seed}
    if step.rule == "train":
        return {"prior": experiment.priors[step.wildcards["prior"]].model_dump(mode="json"), **common}
    return {"task": experiment.tasks[step.wildcards["task"]].problem(), **common}


def _write_job(layout: Layout, step: Step) -> None:
    facts = JobFacts(
        rule=step.rule,
        wildcards=step.wildcards,
        started="2026-01-02T03:04:05+00:00",
        seconds=12.5,
        peak_memory_mb=812.4,
        gpu_memory_mb=None,
        host="node7",
        device="cpu (Some processor)",
        threads=2,
        slurm_job="4242" if step.rule == "train" else None,
        commit="c0ffee" * 6 + "c0ff",
        diff=None,
        versions={"torch": "2.13.0"},
        inputs={"prepared/some/train.npy": "sha256:" + "ab" * 32},
        params=_params_of(layout.experiment, step),
        call=CALL,
    )
    path = layout.job_file(step)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(facts)))
    log = layout.log(step)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"{step.name} is done\n")


def _write_benchmarks(layout: Layout) -> None:
    for step in layout.steps():
        path = layout.benchmark(step)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("s\th:m:s\tmax_rss\tmean_load\tcpu_time\n12.5\t0:00:12\t812.4\t97.5\t12.1\n")
