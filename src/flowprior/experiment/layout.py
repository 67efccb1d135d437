"""Where an experiment's files lie: what the report reads and what it writes. Costs no heavy import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from flowprior.experiment.artefacts import BENCHMARKS, INVOCATION, LEAVES, PREPARED, TRAINING, prepared_set
from flowprior.experiment.params import Experiment
from flowprior.experiment.parts import Training
from flowprior.experiment.plan import Job, fetched, fetched_sets, fitted_priors, jobs


class Step(NamedTuple):
    """A job of the workflow: its rule, and the wildcards that tell it from others of the rule."""

    rule: str
    wildcards: dict[str, str]

    @property
    def name(self) -> str:
        """As its log and its benchmark are named."""
        return "/".join([self.rule, *self.wildcards.values()])

    @classmethod
    def training(cls, prior: str) -> Step:
        """The job that trains a flow."""
        return cls("train", {"prior": prior})

    @classmethod
    def learning(cls, training: Training, experiment: Experiment) -> Step:
        """The job that trains a model: flows, other models and those for one task have rules of their own."""
        if experiment.priors[training.prior].is_flow:
            return cls.training(training.prior)
        if training.task is None:
            return cls("train_model", {"prior": training.prior})
        return cls("train_for_task", {"prior": training.prior, "task": training.task})

    @classmethod
    def study(cls, name: str) -> Step:
        """The job that answers a study."""
        return cls("study", {"study": name})

    @classmethod
    def solving(cls, job: Job) -> Step:
        """A job of reconstruction."""
        return cls("reconstruct", {name: str(value) for name, value in job._asdict().items()})


@dataclass(frozen=True)
class Layout:
    """Paths of one experiment.

    Attributes:
        experiment: whose files.
        root: the repository root, against which all paths are relative.
    """

    experiment: Experiment
    root: Path = Path()

    @property
    def results(self) -> Path:
        """Folder of everything the experiment yields."""
        return self.root / "results" / self.experiment.name

    @property
    def invocation(self) -> Path:
        """The last call of the workflow that had something to do (`flowprior.provenance.Invocation`)."""
        return self.results / INVOCATION

    def left(self, step: Step, name: str) -> Path:
        """A file of those that a job leaves, as `artefacts.LEAVES` names them."""
        return self.results / LEAVES[step.rule].pattern(name).format(**step.wildcards)

    def all_left(self, step: Step) -> list[Path]:
        """Every file that a job leaves, in the order of its rule's outputs; none where the rule is not declared."""
        return [self.left(step, name) for name in LEAVES[step.rule].files] if step.rule in LEAVES else []

    @property
    def published(self) -> Path:
        """Where the records went, or why they did not."""
        return self.left(Step("publish", {}), "published")

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.left(Step("report", {}), "page")

    @property
    def provenance(self) -> Path:
        """What the page was made of, by what, where and when (`flowprior.provenance.collected`)."""
        return self.left(Step("report", {}), "provenance")

    @property
    def settings(self) -> Path:
        """The settings as they were resolved, for `snakemake --configfile`."""
        return self.left(Step("report", {}), "settings")

    def study(self, study: str, name: str) -> Path:
        """A study's `table`, `figure` or `vector` (the figure as PDF)."""
        return self.left(Step.study(study), name)

    def evaluated(self, name: str) -> Path:
        """`rows`, `traces`, `summary`, `paired`, `metrics` or a plot's table of the whole experiment."""
        return self.left(Step("evaluate", {}), name)

    def figure(self, name: str) -> Path:
        """A figure without its ending."""
        return self.results / "figures" / name

    def table(self, name: str) -> Path:
        """A table without its ending."""
        return self.results / "tables" / name

    def prepared(self, name: str) -> Path:
        """`train`, `validation`, `test` or the `manifest` of the prepared images."""
        return self.root / "prepared" / self.experiment.data.key / PREPARED[name]

    def images(self, split: str) -> tuple[Path, Path]:
        """The images of a split or of another test set, and their manifest."""
        if split not in self.experiment.test_sets:
            return self.prepared(split), self.prepared("manifest")
        folder = self.root / "prepared" / prepared_set(self.experiment.test_sets[split].key)
        return folder / PREPARED["test"], folder / PREPARED["manifest"]

    def flow(self, prior: str, name: str) -> Path:
        """What the training of a flow leaves."""
        return self.left(Step.training(prior), name)

    def trained(self, training: Training, name: str) -> Path:
        """What the training of any model leaves: `weights`, `config`, `history`, `samples`, `picture`, `job`."""
        return self.left(Step.learning(training, self.experiment), name)

    def state(self, training: Training) -> Path:
        """Folder of what a killed training goes on from."""
        folder = self.results / TRAINING / training.prior
        return folder if training.task is None else folder / training.task

    def measurement(self, task: str, split: str = "test") -> Path:
        """The archive with a task's measurements of a split."""
        return self.left(Step("measure", {"task": task, "split": split}), "measurement")

    def solved(self, job: Job, name: str) -> Path:
        """What one job of reconstruction leaves: `rows`, `traces`, `images`, `maps` or `job`."""
        return self.left(Step.solving(job), name)

    def fitted(self, prior: str) -> Path:
        """A model that was made of the training images at once."""
        return self.left(Step("fit", {"prior": prior}), "fitted")

    def steps(self) -> list[Step]:
        """Every job before the report, in the order of the workflow."""
        experiment = self.experiment
        solved = jobs(experiment)
        steps = [Step("download", {})] if fetched(experiment.data) else []
        steps += [Step(f"download_{source}", {}) for source in fetched_sets(experiment)]
        sets = dict.fromkeys(prepared_set(data.key) for data in experiment.test_sets.values())
        steps += [Step("prepare", {}), *(Step("prepare_set", {"key": key}) for key in sets)]
        steps += [*(Step.learning(training, experiment) for training in experiment.trainings())]
        steps += [Step("fit", {"prior": prior}) for prior in fitted_priors(experiment)]
        steps += [Step("measure", {"task": task, "split": split}) for task, split in self.measured()]
        steps += [Step.solving(job) for job in solved]
        return [*steps, Step("evaluate", {}), *(Step.study(name) for name in experiment.studies)]

    def measured(self) -> list[tuple[str, str]]:
        """(task, split) of every measurement: those that a method solves, and the test images', which are shown."""
        needed = {(job.task, job.split) for job in jobs(self.experiment)}
        needed |= {(task, "test") for task in self.experiment.tasks}
        splits = self.experiment.solved_splits
        return [(task, split) for task in self.experiment.tasks for split in splits if (task, split) in needed]

    def benchmark(self, step: Step) -> Path:
        """Time and memory of a job, as Snakemake wrote them; may be missing."""
        return self.results / BENCHMARKS / f"{step.name}.tsv"

    def log(self, step: Step) -> Path:
        """What a job printed; may be missing."""
        return self.root / "logs" / self.experiment.name / f"{step.name}.log"

    def job_file(self, step: Step) -> Path | None:
        """What a job says of itself; None where its rule writes no such file."""
        return self.left(step, "job") if "job" in getattr(LEAVES.get(step.rule), "files", ()) else None


def figure_names(experiment: Experiment) -> list[str]:
    """Every figure of the report, each written as PNG and PDF."""
    return [
        *(f"grid_{task}" for task in experiment.tasks),
        "uncertainty",
        "paired",
        "psnr_vs_seconds",
        "psnr_vs_passes",
        "hyperparameters",
        *(f"samples_{prior}" for prior in experiment.flows),
        "training",
    ]


def table_names(experiment: Experiment) -> list[str]:
    """Every table of the report, each written as CSV and LaTeX."""
    published = ["published"] if experiment.reference else []
    return ["results", "selection", "paired", *published, "hyperparameters"]


def report_files(experiment: Experiment) -> list[str]:
    """Every file that `report.build` writes, relative to the repository root; the page comes first.

    Example:
        >>> experiment = Experiment(name="tiny", priors={}, tasks={}, methods={})
        >>> report_files(experiment)[0]
        'results/tiny/report.html'
    """
    layout = Layout(experiment)
    figures = [f"{layout.figure(name)}.{kind}" for name in figure_names(experiment) for kind in ("png", "pdf")]
    tables = [f"{layout.table(name)}.{kind}" for name in table_names(experiment) for kind in ("csv", "tex")]
    return [path.as_posix() for path in layout.all_left(Step("report", {}))] + figures + tables
