"""What every rule of the workflow leaves, declared once.

Rules take their outputs from here, jobs write there, and pruning, records, provenance, the report and DVC look
there: a file that a job is to leave besides is one more entry. Costs no heavy import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from flowprior.images.settings import MANIFEST, SPLITS
from flowprior.models.files import CONFIG, MOMENTS, WEIGHTS

#: Name -> file of the prepared images, in `prepared/<data key>/`.
PREPARED: Mapping[str, str] = MappingProxyType({**{split: f"{split}.npy" for split in SPLITS}, "manifest": MANIFEST})


def prepared_set(key: str) -> str:
    """The folder of a data set's test images alone, beside that in which another experiment may have all of them."""
    return f"{key}-test"


@dataclass(frozen=True)
class Leaves:
    """The files of one rule.

    Attributes:
        stage: of dvc.yaml that runs the rule.
        folder: what comes before each file's name, below `results/<experiment>`; wildcards stand in braces.
        files: name -> file.
        hashed: names whose content `provenance.json` lists; "*": all.
    """

    stage: str
    folder: str
    files: Mapping[str, str]
    hashed: tuple[str, ...] = ()

    def pattern(self, name: str) -> str:
        """The path of one file below `results/<experiment>`, with wildcards in braces."""
        return self.folder + self.files[name]

    @property
    def patterns(self) -> dict[str, str]:
        """Name -> path below `results/<experiment>`."""
        return {name: self.pattern(name) for name in self.files}


#: What training leaves of any model.
_MODEL = {
    "weights": WEIGHTS,
    "config": CONFIG,
    "history": "history.jsonl",
    "samples": "samples.npy",
    "picture": "samples.png",
    "job": "job.json",
}
_SOLVED = {
    "rows": "rows.parquet",
    "traces": "traces.parquet",
    "images": "images.npy",
    "maps": "maps.npz",
    "job": "job.json",
}
_EVALUATED = {
    "rows": "rows.parquet",
    "traces": "traces.parquet",
    "summary": "summary.csv",
    "paired": "paired.csv",
    "sets": "sets.csv",
    "metrics": "metrics.json",
    # What `dvc plots show` draws, by the fields of `flowprior.evaluation.plots.Plots`.
    "plot_training": "plots/training.csv",
    "plot_curves": "plots/curves.csv",
    "plot_settings": "plots/settings.csv",
}

#: Rule -> what it leaves, in the order of the workflow. What the report draws besides: `layout.report_files`.
LEAVES: Mapping[str, Leaves] = MappingProxyType(
    {
        "train": Leaves("train", "flows/{prior}/", {**_MODEL, "moments": MOMENTS}),
        "train_model": Leaves("train", "models/{prior}/", _MODEL),
        "train_for_task": Leaves("train", "models/{prior}/{task}/", _MODEL),
        "fit": Leaves("train", "flows/{prior}/", {"fitted": "{prior}.npz"}, ("fitted",)),
        "measure": Leaves("measure", "measurements/{task}/", {"measurement": "{split}.npz"}, ("measurement",)),
        "reconstruct": Leaves(
            "reconstruct",
            "reconstructions/{task}/{method}/{prior}/{split}/{chunk}.",
            _SOLVED,
            ("rows", "images", "maps"),
        ),
        "evaluate": Leaves("evaluate", "", _EVALUATED, ("rows", "traces", "summary", "paired", "sets", "metrics")),
        # In the stage of the evaluation: some read its rows.
        "study": Leaves("evaluate", "studies/{study}.", {"table": "csv", "figure": "png", "vector": "pdf"}, ("table",)),
        "report": Leaves(
            "report", "", {"page": "report.html", "provenance": "provenance.json", "settings": "settings.yaml"}
        ),
        "publish": Leaves("", "", {"published": "published.json"}),
    }
)

#: Folders of figures and tables that rule `report` fills, below `results/<experiment>`.
DRAWN = ("figures", "tables")
#: What Snakemake measures of each job, and where a killed training goes on from; neither is a result.
BENCHMARKS, TRAINING = "benchmarks", "training"
#: The last call of the workflow that had something to do, as its onstart leaves it.
INVOCATION = "invocation.json"


def folders() -> tuple[str, ...]:
    """Every folder of `results/<experiment>` that belongs to jobs; what else lies there is a person's own.

    Example:
        >>> folders()[:3]
        ('flows', 'models', 'measurements')
    """
    paths = [path for leaves in LEAVES.values() for path in leaves.patterns.values() if "/" in path]
    return (*dict.fromkeys(path.split("/")[0] for path in paths), *DRAWN, BENCHMARKS, TRAINING)


def results_of_stage(stage: str) -> tuple[str, ...]:
    """Files and folders below `results/<experiment>` that a stage of dvc.yaml has as its outputs.

    Example:
        >>> results_of_stage("train")
        ('flows', 'models')
    """
    paths = [path for leaves in LEAVES.values() if leaves.stage == stage for path in leaves.patterns.values()]
    drawn = DRAWN if stage == "report" else ()
    return (*dict.fromkeys(path.split("/")[0] for path in paths), *drawn)
