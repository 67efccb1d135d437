"""The page's tables and facts, every number already written as its reader sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flowprior.evaluation.registry import CHOSEN_BY, Metric
from flowprior.report.formats import DASH, between, count, duration, interval, number, signed, unit, verdict, written
from flowprior.report.lines import Line
from flowprior.report.published import BITS, OFFSET, TITLES
from flowprior.report.results import Results, read_json
from flowprior.report.tables import best, headlines, published_table

View = dict[str, Any]


def cards_view(results: Results) -> list[View]:
    """Per task: the flow method that validation images chose, and how far it is from the baseline they chose."""
    first, *others = results.metrics
    cards = []
    for entry in headlines(results):
        chosen, difference, baseline = entry["chosen"], entry["difference"], entry["baseline"]
        card: View = {
            "task": entry["task"],
            "method": entry["line"].label,
            "colour": entry["line"].colour,
            "value": f"{written(first, chosen[first.name])} {first.unit}".rstrip(),
            "others": ", ".join(f"{one.label} {written(one, chosen[one.name])}" for one in others),
            "verdict": entry["verdict"],
            "baseline": None,
            "ahead": _ahead(entry["ahead"], first),
        }
        if difference and baseline:
            card["baseline"] = baseline.label
            middle, low, high = (difference[name] for name in first.paired)
            card["difference"] = f"{signed(middle, first.digits)} {first.unit}".rstrip()
            card["interval"] = interval(low, high, first.digits, plus=True)
        cards.append(card)
    return cards


def results_view(results: Results) -> list[View]:
    """Table 1, one group per task; the best mean of each task is marked."""
    groups = []
    for task in results.experiment.tasks:
        lines = results.lines_on(task)
        chosen = [results.selected(task, line) or {} for line in lines]
        tops = {one.name: best(chosen, one) for one in results.metrics}
        rows = []
        for line, entry in zip(lines, chosen, strict=True):
            paper, oracle = (results.selected(task, line, by) for by in ("paper", "oracle"))
            rows.append(
                {
                    "method": line.label,
                    "colour": line.colour,
                    "quality": [_mean(one, entry, tops[one.name]) for one in results.metrics],
                    "setting": entry["setting"],
                    "paper": _beside(paper, entry),
                    "oracle": _beside(oracle, entry),
                    "seconds": duration(entry["seconds_per_image"]),
                    "passes": count(entry["passes"]),
                    "n": int(entry["n"]),
                    "n_diverged": int(entry["n_diverged"]),
                    "n_unconverged": _unconverged(entry),
                }
            )
        if rows:
            groups.append({"task": task, "rows": rows})
    return groups


def _unconverged(entry: Mapping[str, Any]) -> int:
    """Images whose search ended before it converged; none where rows of an older version do not say."""
    share = float(entry.get("converged", math.nan))
    return 0 if math.isnan(share) else round(int(entry["n"]) * (1 - share))


def certainty_view(results: Results) -> list[View]:
    """Coverage and CRPS of the methods that give a posterior, per task; the smallest CRPS of each task is marked."""
    groups = []
    for task in results.experiment.tasks:
        chosen = [(line, results.selected(task, line) or {}) for line in results.lines_on(task)]
        told = [(line, entry) for line, entry in chosen if math.isfinite(entry["crps"])]
        rows = [
            {
                "method": line.label,
                "colour": line.colour,
                "coverage": unit(entry["coverage"]),
                "crps": number(entry["crps"], 4),
                "best": entry["crps"] == min(other["crps"] for _, other in told),
                "setting": entry["setting"],
                "n": int(entry["n"]),
            }
            for line, entry in told
        ]
        if rows:
            groups.append({"task": task, "rows": rows})
    return groups


def published_view(results: Results) -> View | None:
    """The paper's table beside ours; None where the experiment names no reference."""
    experiment = results.experiment
    if experiment.reference is None:
        return None
    entries = published_table(results).to_dict("records")
    groups = [
        {"task": task, "rows": [_published_row(entry) for entry in entries if entry["task"] == task]}
        for task in experiment.tasks
        if any(entry["task"] == task for entry in entries)
    ]
    bits = BITS[experiment.reference]
    return {
        "title": TITLES[experiment.reference],
        "groups": groups,
        "offset": number(OFFSET),
        "bits": bits,
        "other_bits": experiment.bits if experiment.bits != bits else None,
    }


def paired_view(results: Results) -> list[View]:
    """Differences to the best baseline, one group per task."""
    groups = []
    for task in results.experiment.tasks:
        baseline = results.best_baseline(task)
        if baseline is None:
            continue
        rows = []
        for line in results.lines_on(task):
            entry = results.difference(task, line, baseline)
            if entry is not None:
                rows.append(
                    {
                        "method": line.label,
                        "colour": line.colour,
                        "n": int(entry["n"]),
                        "differences": [_difference(one, entry) for one in results.metrics],
                        "verdict": verdict(entry["low"], entry["high"]),
                    }
                )
        groups.append({"task": task, "baseline": baseline.label, "rows": rows})
    return groups


def models_view(results: Results) -> list[View]:
    """What was trained: size, quality, time."""
    experiment, models = results.experiment, []
    for training in experiment.trainings():
        plan = experiment.priors[training.prior]
        config = read_json(results.layout.trained(training, "config"))
        models.append(
            {
                "name": training.label,
                "is_flow": plan.is_flow,
                "model": plan.model,
                "settings": ", ".join(f"{key}={value}" for key, value in plan.settings.items()) or "defaults",
                "parameters": count(config.get("parameters")),
                "bits_per_dim": number(config.get("bits_per_dim")),
                "energy_score": number(config.get("energy_score"), 4),
                "bits": config.get("bits", DASH),
                "steps": count(config.get("steps")),
                "seconds": duration(config.get("seconds")),
            }
        )
    return models


def _published_row(entry: dict[Any, Any]) -> View:
    return {
        "method": entry["method"],
        "paper_row": entry["paper_row"],
        "n": entry["n"],
        **{
            name: (unit if name.endswith("ssim") else number)(entry[name])
            for name in entry
            if name.startswith(("paper_", "ours_")) and name != "paper_row"
        },
        "gain": signed(entry["ours_psnr"] - entry["paper_psnr"]),
    }


def _beside(other: View | None, chosen: View) -> View | None:
    """A setting reported beside the chosen one: its quality and how far that is from the chosen one's."""
    if other is None:
        return None
    return {
        "value": number(other[CHOSEN_BY]),
        "difference": signed(other[CHOSEN_BY] - chosen[CHOSEN_BY]),
        "setting": other["setting"],
        "same": other["setting"] == chosen["setting"],
    }


def _mean(metric: Metric, entry: View, top: float) -> View:
    """A mean with its interval; the standard deviation stands beside the metric that settings are chosen by."""
    name = metric.name
    return {
        "mean": written(metric, entry[name]),
        "interval": between(metric, entry[f"{name}_low"], entry[f"{name}_high"]),
        "best": entry[name] == top,
        "std": written(metric, entry[f"{name}_std"]) if name == CHOSEN_BY else None,
    }


def _difference(metric: Metric, entry: View) -> View:
    middle, low, high = (entry[name] for name in metric.paired)
    return {"mean": signed(middle, metric.digits), "interval": interval(low, high, metric.digits, plus=True)}


def _ahead(found: tuple[Line, View] | None, metric: Metric) -> str | None:
    if found is None:
        return None
    line, entry = found
    return f"{line.label} {written(metric, entry[metric.name])} {metric.unit}".rstrip()
