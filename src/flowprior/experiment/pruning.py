"""Files that an experiment left and no longer makes: chunks of a longer sweep, methods and tasks that were removed.

No table is made of them, for jobs read what the experiment names and never what lies there. But they take room, and
DVC would record and push them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from flowprior.errors import FlowpriorError
from flowprior.experiment.artefacts import folders
from flowprior.experiment.layout import Layout, Step, report_files
from flowprior.experiment.params import Experiment
from flowprior.progress import ERROR_SUFFIX


def expected_files(experiment: Experiment) -> frozenset[Path]:
    """Every file in the folders of jobs that the experiment's jobs leave, relative to the repository root.

    Methods whose module is not installed here count: another machine may have solved them.

    Example:
        >>> experiment = Experiment(name="x", priors={"p": {"flow": "glow"}}, tasks={}, methods={})
        >>> Path("results/x/flows/p/weights.safetensors") in expected_files(experiment)
        True
        >>> Path("results/x/flows/q/weights.safetensors") in expected_files(experiment)
        False
    """
    layout = Layout(experiment)
    files = {Path(path) for path in report_files(experiment)}
    for step in (*layout.steps(), *(Step(rule, {}) for rule in ("report", "publish"))):
        log = layout.log(step)
        files |= {*layout.all_left(step), layout.benchmark(step), log, log.with_name(log.name + ERROR_SUFFIX)}
    return frozenset(files)


def stale_files(experiment: Experiment, root: Path = Path()) -> list[Path]:
    """Files of jobs that the experiment no longer has, sorted.

    Looked for in its own folders of results and logs only. Where a training goes on from is kept as long as
    the experiment has the prior; links to folders are not followed.

    Args:
        experiment: as it is now.
        root: the repository root.

    Returns:
        Paths below `root`.
    """
    layout = Layout(experiment)
    kept = expected_files(experiment)
    training = {layout.state(training) for training in experiment.trainings()}
    places = [*(layout.results / name for name in folders()), _logs(experiment)]
    found = (path.relative_to(root) for place in places for path in (root / place).rglob("*"))
    return sorted(
        root / path
        for path in found
        if path not in kept
        # Git's own list of what it ignores is nobody's result.
        and path.name != ".gitignore"
        and not training.intersection(path.parents)
        and ((root / path).is_file() or (root / path).is_symlink())
    )


def check_idle(root: Path = Path()) -> None:
    """Refuse to remove files while jobs may be writing them.

    Raises:
        FlowpriorError: a run of Snakemake holds this folder, or was killed in it.
    """
    locks = root / ".snakemake" / "locks"
    if locks.is_dir() and any(locks.iterdir()):
        raise FlowpriorError(
            f"Snakemake runs in {root.resolve()} or was killed there: wait for it, or say `snakemake --unlock`"
        )


def remove(files: Iterable[Path]) -> None:
    """Remove files, and folders that are empty then."""
    for file in files:
        file.unlink()
        for folder in file.parents:
            if folder.name in ("results", "logs") or any(folder.iterdir()):
                break
            folder.rmdir()


def _logs(experiment: Experiment) -> Path:
    return Path("logs") / experiment.name
