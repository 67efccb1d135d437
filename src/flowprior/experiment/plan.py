"""What an experiment consists of, as jobs, and what can be known before any of them runs.

Nothing here imports torch: the workflow reads it whenever it starts.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

from flowprior.errors import FlowpriorError
from flowprior.experiment.params import Experiment
from flowprior.experiment.parts import NO_PRIOR
from flowprior.experiment.pieces import model_facts, solver_facts
from flowprior.images.settings import DataSettings
from flowprior.models import names as model_names

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]*")


class Job(NamedTuple):
    """One job of reconstruction: a chunk of a method's settings on one task, over all images of a split."""

    task: str
    method: str
    prior: str
    split: str
    chunk: int


def jobs(experiment: Experiment) -> tuple[Job, ...]:
    """Every reconstruction job, in the experiment's order.

    Example:
        >>> experiment = Experiment(name="x", priors={"p": {"flow": "glow"}},
        ...     tasks={"denoising": {"operator": "identity"}},
        ...     methods={"map": {"sweep": {"noise_std": [0.1, 0.2]}}}, chunk=1)
        >>> [(job.split, job.chunk) for job in jobs(experiment)]
        [('validation', 0), ('validation', 1), ('test', 0), ('test', 1)]
    """
    return tuple(
        Job(task, method, prior, split, chunk)
        for method in experiment.methods
        for task in experiment.tasks_of(method)
        for prior in experiment.priors_of(method)
        for split in splits_of(experiment, method, task)
        for chunk in range(len(experiment.chunks(method, task)))
    )


def splits_of(experiment: Experiment, method: str, task: str) -> tuple[str, ...]:
    """Splits that a method solves: a slow one (with `images` set) of one setting skips the validation images.

    Any other solves them even with nothing to choose: the best method and the best baseline are chosen on them too.
    """
    slow = experiment.methods[method].images is not None and not is_baseline(experiment, method)
    skips = slow and len(experiment.points(method, task)) == 1
    return tuple(split for split in experiment.solved_splits if split != "validation" or not skips)


def is_baseline(experiment: Experiment, method: str) -> bool:
    """Whether methods with a learned prior are compared with this one."""
    asked = experiment.methods[method].baseline
    return solver_facts(experiment.solver_of(method)).baseline if asked is None else asked


def fitted_priors(experiment: Experiment) -> tuple[str, ...]:
    """Priors of the jobs that are made of the training images at once, each once."""
    used = dict.fromkeys(job.prior for job in jobs(experiment))
    return tuple(prior for prior in used if prior not in experiment.priors and prior != NO_PRIOR)


def without_missing_solvers(experiment: Experiment) -> tuple[Experiment, dict[str, str]]:
    """Leave out methods whose solver needs a module that is not installed.

    Returns:
        The experiment with the methods that can run, and method -> why for each that cannot.
    """
    skipped = {}
    for method in experiment.methods:
        for module, reason in solver_facts(experiment.solver_of(method)).requires.items():
            if importlib.util.find_spec(module) is None:
                skipped[method] = f"the module {module} is not installed ({reason})"
    methods = {name: plan for name, plan in experiment.methods.items() if name not in skipped}
    return experiment.model_copy(update={"methods": methods}), skipped


def check_names(experiment: Experiment) -> None:
    """Names become folders: letters, digits, '_' and '-' only, and none that stands for something else.

    Raises:
        FlowpriorError: naming the first that cannot be one.
    """
    for kind, names in (
        ("prior", experiment.priors),
        ("task", experiment.tasks),
        ("method", experiment.methods),
        ("study", experiment.studies),
        ("test set", experiment.test_sets),
    ):
        for name in names:
            if not _NAME.fullmatch(name):
                raise FlowpriorError(f"{kind} '{name}' names a folder: use letters, digits, '_' and '-'")
    fitted = {name for name in model_names() if model_facts(name).fitted}
    for name in experiment.priors:
        if name == NO_PRIOR or name in fitted:
            raise FlowpriorError(f"prior '{name}' is a name with a meaning of its own: choose another")


def check_own_results(experiment: Experiment, path: Path) -> None:
    """Two experiments in one folder of results would replace each other's: a copied file needs a name of its own.

    Raises:
        FlowpriorError: another file beside this one is named as this experiment is.
    """
    owner = path.with_name(f"{experiment.name}.yaml")
    if path.stem != experiment.name and owner.exists():
        raise FlowpriorError(
            f"{path} has the name '{experiment.name}' of {owner}, whose results it would replace; "
            f"set its own: name: {path.stem}"
        )


def fetched(data: DataSettings) -> bool:
    """Whether a job fetches the raw images: a user's own path is only read."""
    return data.path is None and (data.source == "photos" or (data.source == "celeba" and data.url is not None))


def fetched_sets(experiment: Experiment) -> dict[str, DataSettings]:
    """Source -> settings of raw images that are fetched for other test sets and not for the experiment's own."""
    own = experiment.data.source if fetched(experiment.data) else None
    return {data.source: data for data in experiment.test_sets.values() if fetched(data) and data.source != own}
