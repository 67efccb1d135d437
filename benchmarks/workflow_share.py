"""How much of a finished workflow run's job time is not computing: starting Python, reading, writing."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import Options, Part, Row
from flowprior.errors import FlowpriorError


@dataclass(frozen=True)
class Jobs:
    """All jobs of one rule: how many, and their seconds by Snakemake's count."""

    count: int
    seconds: float


def run(options: Options) -> Part:
    """Compare what Snakemake measured with what the jobs say they computed.

    Raises:
        FlowpriorError: the folder holds no finished run.
    """
    if options.results is None:
        raise FlowpriorError("workflow_share needs a finished run: --results results/<experiment>")
    jobs = measured(options.results)
    computing = computed(options.results)
    rows = []
    for rule, entry in sorted(jobs.items(), key=lambda item: -item[1].seconds):
        known = computing.get(rule)
        share = 1 - known / entry.seconds if known is not None and entry.seconds else None
        facts = {"rule": rule, "jobs": entry.count, "seconds": entry.seconds, "computing": known, "share": share}
        note = "" if share is None else f"{known:.0f} s computing: {share:.0%} is not"
        rows.append(Row(f"{rule}, {entry.count} jobs", "snakemake", entry.seconds, "s", note=note, facts=facts))
    total, known = sum(entry.seconds for entry in jobs.values()), sum(computing[rule] for rule in computing)
    facts = {"rule": "all", "seconds": total, "computing": known, "share": 1 - known / total}
    rows.append(Row("all jobs", "snakemake", total, "s", note=f"{1 - known / total:.0%} is not computing", facts=facts))
    notes = (
        f"{options.results.name}: job seconds by Snakemake's benchmarks, added up over jobs that may run side by side.",
        "Computing: solvers' own seconds (rows.parquet), training's own seconds (config.json). Of other rules it is "
        "not known, and counts as none.",
    )
    return Part("Workflow: what is not computing", tuple(rows), notes)


def measured(results: Path) -> dict[str, Jobs]:
    """Rule -> its jobs, from the benchmark files; the newest line of each.

    Raises:
        FlowpriorError: there are none.
    """
    folder = results / "benchmarks"
    seconds: dict[str, list[float]] = defaultdict(list)
    for path in sorted(folder.rglob("*.tsv")):
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file, delimiter="\t"))
        if lines:
            seconds[path.relative_to(folder).with_suffix("").parts[0]].append(float(lines[-1]["s"]))
    if not seconds:
        raise FlowpriorError(f"no Snakemake benchmarks below {folder}; run the workflow first")
    return {rule: Jobs(len(found), sum(found)) for rule, found in seconds.items()}


def computed(results: Path) -> dict[str, float]:
    """Rule -> seconds of computing by the jobs' own count.

    Raises:
        FlowpriorError: the run is not finished.
    """
    import pandas as pd

    path = results / "rows.parquet"
    if not path.is_file():
        raise FlowpriorError(f"no {path}: the run is not finished; run the workflow to its end first")
    # A row's seconds are its image's share of a batch.
    found = {"reconstruct": float(pd.read_parquet(path, columns=["seconds"])["seconds"].sum())}
    trained = [json.loads(config.read_text())["seconds"] for config in sorted(results.glob("flows/*/config.json"))]
    return found | ({"train": float(sum(trained))} if trained else {})
