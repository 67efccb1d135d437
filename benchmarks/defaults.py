"""What `map` gives as it comes, told the noise and nothing else, beside the best linear estimate."""

from __future__ import annotations

import numpy as np

from benchmarks.model import Options, Part, Row, Target, say
from benchmarks.photographs import Subject, prepared, subject
from benchmarks.quality import Measured, measured_images
from flowprior import solvers
from flowprior.errors import FlowpriorError
from flowprior.evaluation.metrics import psnr
from flowprior.evaluation.statistics import bootstrap_interval
from flowprior.models.gaussian import Gaussian
from flowprior.operators.task import TaskSettings
from flowprior.solvers.memory import Memory

_OPERATORS = {"identity": {}, "box_blur": {"size": 3}, "center_mask": {}, "channel_mean": {}}
_NOISES = (0.0, 0.01, 0.04, 0.1)
#: What the linear estimate takes for no noise.
_EXACT = 0.001


def run(options: Options) -> Part:
    """Every operator at every noise: the paired difference of `map` and `linear_mmse`, each told the true noise."""
    chosen = subject(options, 8 if options.quick else 64)
    gaussian, memory, rows = _gaussian(options), Memory(), []
    for operator, settings in _OPERATORS.items():
        for noise in _NOISES:
            if operator == "identity" and noise == 0:
                continue
            say(f"  {operator}, noise {noise:g}")
            task = TaskSettings(operator=operator, settings=settings, noise_std=noise)
            measured = measured_images(chosen, f"{operator}, noise {noise:g}", task)
            rows.append(_row(measured, chosen, gaussian, noise, memory, judged=not options.quick))
    notes = (
        chosen.about,
        '`solve("map", operator, y, prior=flow, noise_std=...)` less `linear_mmse`, both told the true noise (0: '
        f"{_EXACT:g} for the latter); mean of the paired differences in PSNR and its 95 % interval.",
    )
    return Part("`map` with its defaults beside `linear_mmse`", tuple(rows), notes)


def _row(measured: Measured, chosen: Subject, gaussian: Gaussian, noise: float, memory: Memory, judged: bool) -> Row:
    ask = {"keys": chosen.names, "memory": memory}
    linear = solvers.solve("linear_mmse", measured.operator, measured.y, gaussian, noise_std=max(noise, _EXACT), **ask)
    found = solvers.solve("map", measured.operator, measured.y, chosen.flow, noise_std=noise, **ask)
    ours, theirs = (psnr(result.images, measured.truth, 1.0).double() for result in (found, linear))
    difference = (ours - theirs).numpy()
    low, high = bootstrap_interval(difference)
    converged, spent = float(found.converged.float().mean()), float(found.passes.float().mean())
    note = (
        f"linear_mmse {float(theirs.mean()):.2f}, map {float(ours.mean()):.2f} dB; {spent:.0f} passes, "
        f"{found.seconds / len(ours):.2f} s an image, {converged:.0%} converged"
    )
    facts = {"noise_std": noise, "linear_mmse": float(theirs.mean()), "map": float(ours.mean()), "converged": converged}
    return Row(
        measured.name,
        "map",
        float(difference.mean()),
        "dB",
        (low, high),
        None,
        Target("at least", 0.0, judged),
        note,
        facts,
    )


def _gaussian(options: Options) -> Gaussian:
    """The Gaussian of the training images: of the photographs, or as the workflow left it beside the named flow."""
    if options.flow is None:
        return Gaussian.fit_pixels(np.asarray(prepared(options)[1]["train"].pixels))
    path = options.flow.resolve().parent / "gaussian" / "gaussian.npz"
    if not path.is_file():
        raise FlowpriorError(f"no Gaussian of the training images at {path}; name a flow of a run with linear_mmse")
    return Gaussian.load(path)
