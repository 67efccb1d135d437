"""Where an experiment's files lie: what the report reads and what it writes. Costs no heavy import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowprior.params import Experiment
from flowprior.plan import SOLVED_SPLITS, jobs

#: Tables behind `dvc plots show`, as `flowprior.evaluation.plots.Plots` has them.
PLOT_NAMES = ("training", "curves", "settings")


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
        return self.results / "invocation.json"

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.results / "report.html"

    def figure(self, name: str) -> Path:
        """A figure without its ending."""
        return self.results / "figures" / name

    def table(self, name: str) -> Path:
        """A table without its ending."""
        return self.results / "tables" / name

    def plot(self, name: str) -> Path:
        """The table behind one of DVC's plots."""
        return self.results / "plots" / f"{name}.csv"

    def prepared(self, file: str) -> Path:
        """`train.npy`, `validation.npy`, `test.npy` or `manifest.json` of the prepared images."""
        return self.root / "prepared" / self.experiment.data.key / file

    def flow(self, prior: str, file: str) -> Path:
        """`config.json`, `history.jsonl` or `samples.npy` of a trained flow."""
        return self.results / "flows" / prior / file

    def measurement(self, task: str, split: str = "test") -> Path:
        """The archive with a task's measurements of a split."""
        return self.results / "measurements" / task / f"{split}.npz"

    def images(self, task: str, method: str, prior: str, chunk: int, split: str = "test") -> Path:
        """The reconstructions of one chunk of settings."""
        return self.results / "reconstructions" / task / method / prior / split / f"{chunk}.images.npy"

    def job(self, task: str, method: str, prior: str, chunk: int, split: str = "test") -> Path:
        """What the job of one chunk of settings says of itself (`flowprior.provenance.JobFacts`)."""
        return self.results / "reconstructions" / task / method / prior / split / f"{chunk}.job.json"

    def training_job(self, prior: str) -> Path:
        """What the job that trained a flow says of itself."""
        return self.flow(prior, "job.json")

    def benchmarks(self) -> list[tuple[str, Path]]:
        """(rule, file with its time and memory) of every job before the report; a file may be missing."""
        experiment = self.experiment
        solved = jobs(experiment)
        steps = ["download", "prepare", *(f"train/{prior}" for prior in experiment.priors)]
        steps += ["gaussian"] if any(job.prior == "gaussian" for job in solved) else []
        steps += [f"measure/{task}/{split}" for task in experiment.tasks for split in SOLVED_SPLITS]
        steps += ["/".join(["reconstruct", *map(str, job)]) for job in solved]
        steps += ["evaluate"]
        return [(step.partition("/")[0], self.results / "benchmarks" / f"{step}.tsv") for step in steps]


def figure_names(experiment: Experiment) -> list[str]:
    """Every figure of the report, each written as PNG and PDF."""
    return [
        *(f"grid_{task}" for task in experiment.tasks),
        "paired",
        "psnr_vs_seconds",
        "psnr_vs_evaluations",
        "hyperparameters",
        *(f"samples_{prior}" for prior in experiment.priors),
        "training",
    ]


def table_names(experiment: Experiment) -> list[str]:
    """Every table of the report, each written as CSV and LaTeX."""
    published = ["published"] if experiment.reference else []
    return ["results", "selection", "paired", *published, "hyperparameters"]


def outputs(experiment: Experiment) -> list[str]:
    """Every file that `build` writes, relative to the repository root; the page comes first.

    Example:
        >>> experiment = Experiment(name="tiny", priors={}, tasks={}, methods={})
        >>> outputs(experiment)[0]
        'results/tiny/report.html'
    """
    layout = Layout(experiment)
    figures = [f"{layout.figure(name)}.{kind}" for name in figure_names(experiment) for kind in ("png", "pdf")]
    tables = [f"{layout.table(name)}.{kind}" for name in table_names(experiment) for kind in ("csv", "tex")]
    return [layout.page.as_posix(), *figures, *tables]
