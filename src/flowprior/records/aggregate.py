"""The record of an experiment as a whole: its tables, its report, and the numbers that stand in them."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flowprior.evaluation.registry import METRICS
from flowprior.experiment.layout import Step
from flowprior.experiment.loading import load_experiment
from flowprior.experiment.plan import jobs, without_missing_solvers
from flowprior.images.checksums import of_file
from flowprior.provenance.invocation import Invocation
from flowprior.provenance.times import benchmark_numbers
from flowprior.records import facts
from flowprior.records.record import Record, finite, flat
from flowprior.records.solving import Chosen

if TYPE_CHECKING:
    import pandas as pd

    from flowprior.experiment.layout import Layout


def aggregate_record(common: facts.Common) -> Record | None:
    """Of an experiment whose report was written, else None."""
    layout = common.layout
    experiment, evaluated = layout.experiment, layout.evaluated("metrics")
    if not evaluated.exists() or not layout.settings.exists():
        return None
    if without_missing_solvers(load_experiment(layout.settings))[0] != without_missing_solvers(experiment)[0]:
        common.skip(f"{layout.page} is of other settings than the experiment has now; run the workflow again")
        return None
    metrics = json.loads(evaluated.read_text())
    found = {
        f"{task}/{method}/{name}": values[name]
        for task, methods in metrics.items()
        for method, values in methods.items()
        for name in (*(one.name for one in METRICS), "seconds_per_image")
        if values.get(name) is not None
    }
    tables = {name: layout.evaluated(name) for name in ("summary", "paired")}
    files = [layout.page, layout.provenance, layout.settings, evaluated, *tables.values()]
    files += sorted(layout.figure("").parent.glob("*.png"))
    times = [layout.benchmark(Step(rule, {})) for rule in ("evaluate", "report")]
    return Record(
        group=common.group,
        kind="aggregate",
        name="aggregate",
        key=f"{experiment.name}/aggregate",
        settings=flat(
            {
                "tasks": list(experiment.tasks),
                "methods": list(experiment.methods),
                "priors": list(experiment.priors),
                "jobs": len(jobs(experiment)),
                **experiment.model_dump(include={"bits", "seed", "validation_images", "test_images"}),
            }
        ),
        metrics=finite(found),
        tags=_origin(layout),
        marks=common.marks,
        inputs=tuple(common.images[split] for split in ("validation", "test") if split in common.images),
        artifacts={path.name: partial(_copy, path) for path in files if path.exists()},
        tables={f"{name}.json": partial(_table, path) for name, path in tables.items()},
        started=datetime.fromtimestamp(evaluated.stat().st_mtime, UTC),
        seconds=sum(benchmark_numbers(path).get("s", 0.0) for path in times),
        call=Invocation.read(layout.invocation),
    )


def _origin(layout: Layout) -> dict[str, str]:
    """Which page, and by which program and where it was written, as far as the page says so."""
    tags = {"report": of_file(layout.page).partition(":")[2][:16]} if layout.page.exists() else {}
    if not layout.provenance.exists():
        return tags
    known = json.loads(layout.provenance.read_text())
    source, written = known["source"], known["written"]
    diff = source["diff"] and source["diff"].removeprefix("sha256:")
    tags |= {"host": written["host"], "torch": written["versions"]["torch"]}
    return tags | facts.source_tags(source["commit"], diff)


def chosen_settings(layout: Layout) -> Chosen:
    """Which settings stand in the tables, and why; empty before the evaluation."""
    import pandas as pd

    path = layout.evaluated("summary")
    if not path.exists():
        return {}
    found: dict[tuple[str, str, str, str], list[str]] = {}
    # A prior may be called "none", which is a name here and no missing value.
    summary = pd.read_csv(path, keep_default_na=False)
    for line in summary.astype(str).to_dict("records"):
        at = (line["task"], line["method"], line["prior"], line["setting"])
        found.setdefault(at, []).append(line["selected_by"])
    return {at: ",".join(ways) for at, ways in found.items()}


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path, keep_default_na=False)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
