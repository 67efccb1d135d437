"""The report's tables as data frames with plain numbers, and its main finding in a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from flowprior.evaluation.registry import CHOSEN_BY, METRICS, Metric
from flowprior.report.formats import verdict
from flowprior.report.lines import Line
from flowprior.report.published import Published, Reference
from flowprior.report.results import Results

#: Of the table of results, in the order that its readers know; those of other metrics come after them.
_FIRST = [
    *("task", "method", "prior", "setting", "n", "n_diverged"),
    *(f"{name}{part}" for name in ("psnr", "ssim") for part in ("", "_std", "_low", "_high")),
    *("seconds_per_image", "passes", "coverage", "crps", "converged"),
]
#: What stands beside a paper's numbers -> its column of the summary.
_OURS = {"printed": "psnr_chavez2021_pooled", "psnr": "psnr", "ssim": "ssim"}
#: Columns of the table of published values.
_PUBLISHED = [
    *("task", "paper_row", "method"),
    *(f"paper_{name}" for name in ("printed", "psnr", "psnr_std", "ssim", "ssim_std")),
    *(f"{whose}_{name}" for whose in ("ours", "ours_paper_setting") for name in _OURS),
    "n",
]


def results_table(results: Results) -> pd.DataFrame:
    """Table 1: every method on every task with the setting that validation images chose, on test images."""
    chosen = results.summary[results.summary["selected_by"] == "validation"]
    columns = (name for one in METRICS if not one.convention for name in one.columns)
    others = [name for name in columns if name in chosen and name not in _FIRST]
    return chosen[[*_FIRST, *others]].reset_index(drop=True)


def selection_table(results: Results) -> pd.DataFrame:
    """What choosing costs: mean test PSNR by validation, with the paper's values, and of the oracle."""
    lines = []
    for task, line in _entries(results):
        entry: dict[str, Any] = {"task": task, "method": line.label}
        for by in ("validation", "paper", "oracle"):
            chosen = results.selected(task, line, by)
            entry[f"{by}_setting"] = chosen["setting"] if chosen else ""
            entry[f"{by}_{CHOSEN_BY}"] = chosen[CHOSEN_BY] if chosen else np.nan
        entry["cost_of_choosing"] = entry[f"oracle_{CHOSEN_BY}"] - entry[f"validation_{CHOSEN_BY}"]
        lines.append(entry)
    columns = [f"{by}_{what}" for by in ("validation", "paper", "oracle") for what in ("setting", CHOSEN_BY)]
    return pd.DataFrame(lines, columns=["task", "method", *columns, "cost_of_choosing"])


def paired_table(results: Results) -> pd.DataFrame:
    """Every method minus the best baseline of its task, on the test images that both solved."""
    against = results.paired[results.paired["other_is_best_baseline"].astype(bool)]
    return against.drop(columns="other_is_best_baseline").reset_index(drop=True)


def published_table(results: Results, reference: Reference) -> pd.DataFrame:
    """A paper's tables beside ours; all methods, theirs or not, and theirs on other test images too.

    `ours_psnr` is the true mean. Where the paper prints another number than PSNR that stands in columns `_printed`;
    ours pools one MSE per 32 images, as the program of Chávez 2021 does.
    """
    lines = []
    for images in ("test", *results.experiment.test_sets):
        for task, line in _entries(results):
            theirs = reference.entry(task, line.solver, line.prior, images)
            ours, fixed = _ours(results, task, line, images)
            if ours is None or (theirs is None and images != "test"):
                continue
            entry = {
                "task": task if images == "test" else f"{task}, {images}",
                "method": line.label,
                "n": int(ours["n"]),
            }
            entry |= {f"paper_{name}": value for name, value in (theirs or Published("", np.nan))._asdict().items()}
            for whose, means in (("ours", ours), ("ours_paper_setting", fixed or {})):
                entry |= {f"{whose}_{name}": means.get(column, np.nan) for name, column in _OURS.items()}
            lines.append(entry)
    columns = [name for name in _PUBLISHED if reference.printed or not name.endswith("_printed")]
    return pd.DataFrame(lines, columns=columns)


def _ours(results: Results, task: str, line: Line, images: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Means with the setting that validation images chose, and with the paper's; these of our own test images only."""
    if images == "test":
        return results.selected(task, line), results.selected(task, line, "paper")
    return results.on_set(task, images).get(line), None


def hyperparameter_table(results: Results) -> pd.DataFrame:
    """Mean quality of every setting on both splits."""
    return results.means.drop(columns="settings")


def best(chosen: list[dict[str, Any]], metric: Metric) -> float:
    """The best mean among lines that solved all images of their task; a mean over fewer is no rival.

    Args:
        chosen: lines of the summary, of one task.
        metric: of which; the smallest mean where less is better.
    """
    most = max((entry["n"] for entry in chosen), default=0)
    values = [entry[metric.name] for entry in chosen if entry["n"] == most and not np.isnan(entry[metric.name])]
    return max(values, key=metric.gain, default=np.nan)


def headlines(results: Results) -> list[dict[str, Any]]:
    """Per task, the best flow method against the best baseline; both chosen on validation images."""
    found = []
    for task in results.experiment.tasks:
        line, baseline = results.best_flow(task), results.best_baseline(task)
        chosen = results.selected(task, line) if line else None
        if line is None or chosen is None:
            continue
        difference = results.difference(task, line, baseline) if baseline else None
        found.append(
            {
                "task": task,
                "line": line,
                "baseline": baseline,
                "chosen": chosen,
                "ahead": _ahead(results, task, chosen),
                "difference": difference,
                "verdict": verdict(difference["low"], difference["high"]) if difference else "",
            }
        )
    return found


def _ahead(results: Results, task: str, chosen: dict[str, Any]) -> tuple[Line, dict[str, Any]] | None:
    """The flow method that turned out best on as many test images, where validation images chose another."""
    flows = [(line, entry) for line, entry in results.chosen(task) if line.is_flow]
    line, best_one = max(flows, key=lambda pair: pair[1][CHOSEN_BY] if pair[1]["n"] == chosen["n"] else -np.inf)
    return (line, best_one) if best_one[CHOSEN_BY] > chosen[CHOSEN_BY] else None


def key_sentence(found: list[dict[str, Any]]) -> str:
    """The report's main finding in a sentence, from `headlines`."""
    judged = [entry for entry in found if entry["verdict"]]
    if not judged:
        return "No flow method could be compared with a baseline."
    parts: list[str] = []
    for word, phrase in (("better", "above"), ("level", "level with"), ("worse", "below")):
        tasks = [entry["task"] for entry in judged if entry["verdict"] == word]
        if tasks:
            parts.append(f"{phrase} {'it' if parts else 'the baseline without one'} in {listed(tasks)}")
    found_by = "by the 95 % interval of the paired PSNR difference"
    return f"Chosen on validation images, the method with a learned flow is {listed(parts)}, {found_by}."


def _entries(results: Results) -> list[tuple[str, Line]]:
    return [(task, line) for task in results.experiment.tasks for line in results.lines_on(task)]


def listed(words: list[str]) -> str:
    """Words in a sentence."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
