"""What a report reads: the rows of an experiment, and what was derived from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowprior.errors import FlowpriorError
from flowprior.evaluation.aggregate import best_baselines
from flowprior.evaluation.registry import FIRST_COLUMNS, VALIDATION, Metric, compared
from flowprior.evaluation.selection import setting_means
from flowprior.experiment.layout import Layout
from flowprior.experiment.params import Experiment
from flowprior.report.lines import Line, lines_of
from flowprior.report.published import Reference, reference_of


@dataclass(frozen=True)
class Results:
    """One experiment's results.

    Attributes:
        experiment: what was asked for.
        layout: where its files lie.
        lines: methods that ran, with their labels and colours.
        rows: one per image and setting.
        traces: points along the way of each image and setting.
        summary: one line per task, method, prior and way of selecting.
        paired: differences between methods.
        sets: means over each set of test images.
        means: one line per setting and split.
        skipped: method -> why it did not run.
    """

    experiment: Experiment
    layout: Layout
    lines: tuple[Line, ...]
    rows: pd.DataFrame
    traces: pd.DataFrame
    summary: pd.DataFrame
    paired: pd.DataFrame
    sets: pd.DataFrame
    means: pd.DataFrame
    skipped: Mapping[str, str]

    @property
    def metrics(self) -> list[Metric]:
        """What stands in the tables: metrics with intervals that some line has."""
        return compared(self.summary)

    @property
    def reference(self) -> Reference | None:
        """Published tables to stand beside ours."""
        name = self.experiment.reference
        return reference_of(name) if name else None

    def lines_on(self, task: str) -> list[Line]:
        """Methods that ran on a task, in the experiment's order."""
        ran = set(
            self.summary.loc[self.summary["task"] == task, ["method", "prior"]].itertuples(index=False, name=None)
        )
        return [line for line in self.lines if line.key in ran]

    def selected(self, task: str, line: Line, by: str = "validation") -> dict[str, Any] | None:
        """The summary's line of a method, or None where there is none ("paper" without a paper's values)."""
        return _first(_where(self.summary, **_key(task, line), selected_by=by))

    def chosen(self, task: str) -> list[tuple[Line, dict[str, Any]]]:
        """Methods that ran on a task, each with the summary's line of the setting that validation images chose."""
        return [(line, self.selected(task, line) or {}) for line in self.lines_on(task)]

    def on_set(self, task: str, name: str) -> dict[Line, dict[str, Any]]:
        """Means over a set of test images, of the methods that solved it."""
        found = {line: _first(_where(self.sets, **_key(task, line), set=name)) for line in self.lines_on(task)}
        return {line: entry for line, entry in found.items() if entry}

    def rows_of(self, task: str, line: Line, setting: str, split: str = "test") -> pd.DataFrame:
        """Rows of one setting on one split, in the order of the images."""
        return _where(self.rows, **_key(task, line), setting=setting, split=split)

    def traces_of(self, task: str, line: Line, setting: str, split: str = "test") -> pd.DataFrame:
        """Trace points of one setting on one split."""
        return _where(self.traces, **_key(task, line), setting=setting, split=split)

    def best_baseline(self, task: str) -> Line | None:
        """The baseline with the best mean PSNR on validation images."""
        key = best_baselines(self.summary).get(task)
        return next((line for line in self.lines if line.key == key), None)

    def best_flow(self, task: str) -> Line | None:
        """The flow method with the best mean PSNR on validation images."""
        scores = [(line, float(entry.get(VALIDATION, np.nan))) for line, entry in self.chosen(task) if line.is_flow]
        return max(scores, key=lambda pair: np.nan_to_num(pair[1], nan=-np.inf))[0] if scores else None

    def difference(self, task: str, line: Line, other: Line) -> dict[str, Any] | None:
        """The paired difference `line` minus `other`, or None."""
        return _first(_where(self.paired, **_key(task, line), other=other.method, other_prior=other.prior))

    def means_of(self, task: str, line: Line) -> pd.DataFrame:
        """Mean quality of a method's settings, both splits."""
        return _where(self.means, **_key(task, line))


def load(experiment: Experiment, root: Path, skipped: Mapping[str, str] | None = None) -> Results:
    """Read what rule `evaluate` wrote.

    Raises:
        FlowpriorError: a file is missing.
    """
    layout = Layout(experiment, root)
    files = {name: layout.evaluated(name) for name in ("rows", "traces", "summary", "paired", "sets")}
    for path in files.values():
        if not path.exists():
            raise FlowpriorError(f"no {path.relative_to(root)}; evaluate the experiment first")
    rows = pd.read_parquet(files["rows"])
    # A prior may be called "none": only an empty field means that there is no value.
    readable: Any = {"keep_default_na": False, "na_values": [""]}
    ran = set(rows[["method", "prior"]].drop_duplicates().itertuples(index=False, name=None))
    return Results(
        experiment=experiment,
        layout=layout,
        lines=tuple(line for line in lines_of(experiment) if line.key in ran),
        rows=rows,
        traces=pd.read_parquet(files["traces"]),
        summary=_with_columns(pd.read_csv(files["summary"], **readable)),
        paired=pd.read_csv(files["paired"], **readable),
        sets=pd.read_csv(files["sets"], **readable),
        means=setting_means(rows),
        skipped=dict(skipped or {}),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file, or an empty dictionary where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def read_history(path: Path) -> pd.DataFrame:
    """A training's history, one line per record; empty where there is none."""
    if not path.exists():
        return pd.DataFrame()
    return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines() if line.strip()])


def _with_columns(summary: pd.DataFrame) -> pd.DataFrame:
    """A summary of before some column was there has it without values."""
    return summary.reindex(columns=[*summary, *(name for name in FIRST_COLUMNS if name not in summary)])


def _key(task: str, line: Line) -> dict[str, str]:
    return {"task": task, "method": line.method, "prior": line.prior}


def _where(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table


def _first(table: pd.DataFrame) -> dict[str, Any] | None:
    return next(({str(name): value for name, value in row.items()} for row in table.head(1).to_dict("records")), None)
