"""Seconds of one whole task: `map` on 192 images as params/chavez2021.yaml sets it."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.model import Options, Part, Row, Target, say
from benchmarks.photographs import Subject, subject
from benchmarks.problems import random_flow
from benchmarks.quality import measured_images, solved
from benchmarks.training import noise_pixels
from flowprior.errors import FlowpriorError
from flowprior.experiment.loading import load_experiment

_PARAMS = Path(__file__).parents[1] / "params" / "chavez2021.yaml"
_METHOD, _IMAGES, _AT_MOST = "map", 192, 60.0


def run(options: Options) -> Part:
    """Every task once, at the first of its settings."""
    experiment = load_experiment(_PARAMS)
    count = 16 if options.quick else _IMAGES
    chosen = subject(options, count) if options.flow is not None else _stand_in(count)
    rows = []
    for name, task in experiment.tasks.items():
        say(f"  {name}")
        settings = dict(experiment.points(_METHOD, name)[0].settings)
        if options.quick and "samples" in settings:
            settings["samples"] = 4096
        measured = measured_images(chosen, name, task)
        started = time.perf_counter()
        result = solved(measured, _METHOD, {}, **settings)
        seconds = time.perf_counter() - started
        if broken := sum(status != "ok" for status in result.status):
            raise FlowpriorError(f"{name}: {broken} of {count} images diverged, so the time means nothing")
        note = f"{float(result.passes.float().mean()):.0f} passes an image"
        target = Target("at most", _AT_MOST, judged=not options.quick)
        rows.append(Row(name, _METHOD, seconds, "s", None, None, target, note, {"images": count, **settings}))
    notes = (chosen.about, f"By wall clock, all threads, one setting of {_PARAMS.name}; folding and samples included.")
    return Part(f"One whole task: `{_METHOD}` on {count} images of 32x32", tuple(rows), notes)


def _stand_in(count: int) -> Subject:
    """The experiment's flow with random weights, and smooth images: a step takes as long on any."""
    prior = load_experiment(_PARAMS).priors["haar_glow"]
    flow = random_flow(prior.model, 32, **prior.settings)
    names = tuple(str(number) for number in range(count))
    return Subject(flow, noise_pixels(count, 32), names, 8, "The experiment's flow with random weights, smooth images.")
