"""Everything that is reported, derived from rows and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flowprior.evaluation.registry import (
    CHOSEN_BY,
    FIRST_COLUMNS,
    FIRST_PAIRED,
    METRICS,
    VALIDATION,
    Metric,
    chosen_by,
    known,
)
from flowprior.evaluation.selection import LINE, check_rows, choose, diverged, setting_means
from flowprior.evaluation.statistics import bootstrap_interval, describe, pooled_psnr_chavez2021

#: Columns with which the table of other test sets begins.
FIRST_ON_SETS = (*LINE, "setting", "set", "n", "n_diverged")


class Evaluation(NamedTuple):
    """What follows from an experiment's rows.

    Attributes:
        summary: one line per (task, method, prior, selected_by), on test images.
        paired: one line per ordered pair of methods on a task, both as selected on validation images.
        metrics: {task: {method: {metric: value}}} of the validation-selected lines; `method/prior` where a
            method ran with several priors. None stands for what is not a number.
        sets: one line per (task, method, prior, set): means over the test images and over those of each other test
            set, with the setting that validation images chose.
    """

    summary: pd.DataFrame
    paired: pd.DataFrame
    metrics: dict[str, dict[str, dict[str, Any]]]
    sets: pd.DataFrame


def evaluate(rows: pd.DataFrame, seed: int = 0) -> Evaluation:
    """Select settings, average over test images, and compare methods on the images they share.

    Diverged images count with the quality that was recorded for them. One whose quality is not a number makes
    its setting's mean NaN, and that setting is chosen last.

    Args:
        rows: one per (task, method, prior, setting, split, image) of one experiment.
        seed: of the experiment; bootstrap resamples follow from it.

    Returns:
        An `Evaluation`.

    Raises:
        FlowpriorError: rows are missing, doubled, or not comparable.
    """
    check_rows(rows)
    summary = summarise(rows, seed)
    differences = paired_differences(rows, summary, seed)
    return Evaluation(summary, differences, metrics_of(summary), means_on_sets(rows, summary, seed))


def summarise(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One line per (task, method, prior, selected_by): `FIRST_COLUMNS`, then those of other metrics."""
    lines = []
    for line, means in setting_means(rows).groupby(LINE, sort=False):
        validation = means[means["split"] == "validation"].set_index("setting")[CHOSEN_BY]
        for selected_by, setting in choose(means).items():
            images = _test_rows(rows, line, setting)
            first = images.iloc[0]
            lines.append(
                {
                    **dict(zip(LINE, line, strict=True)),
                    **{name: first[name] for name in ("solver", "dataset", "bits")},
                    "baseline": bool(first["baseline"]),
                    "setting": setting,
                    "selected_by": selected_by,
                    "n": len(images),
                    "n_diverged": int(diverged(images).sum()),
                    **quality(images, known(rows), seed),
                    "seconds_per_image": float(images["seconds"].mean()),
                    "passes": float(images["passes"].mean()),
                    "psnr_chavez2021_pooled": pooled_psnr_chavez2021(chosen_by().values(images)),
                    # Rows of an older version do not say.
                    "converged": float(images["converged"].mean()) if "converged" in images else np.nan,
                    VALIDATION: float(validation.get(setting, np.nan)),
                }
            )
    return _in_order(lines, FIRST_COLUMNS)


def quality(images: pd.DataFrame, metrics: Iterable[Metric], seed: int) -> dict[str, float]:
    """Means of metrics over rows, with intervals and standard deviations of those that have them.

    A NaN among the images makes a mean NaN: only methods with a posterior have all metrics, and what failed counts.
    """
    found: dict[str, float] = {}
    for one in metrics:
        values = one.values(images)
        if one.interval:
            told = describe(values, seed)
            found |= dict(zip(one.columns, (told.mean, told.low, told.high, told.std), strict=True))
        else:
            found[one.name] = float(values.mean())
    return found


def means_on_sets(rows: pd.DataFrame, summary: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The line that validation images chose on the test images and on every other test set that it solved."""
    lines = []
    sets = [name for name in dict.fromkeys(rows["split"]) if name != "validation"]
    for line in summary[summary["selected_by"] == "validation"].to_dict("records"):
        for name in sets:
            images = _test_rows(rows, tuple(line[part] for part in LINE), line["setting"], name)
            if len(images):
                place = {**{part: line[part] for part in (*LINE, "setting")}, "set": name}
                counts = {"n": len(images), "n_diverged": int(diverged(images).sum())}
                lines.append({**place, **counts, **quality(images, known(rows), seed)})
    return _in_order(lines, FIRST_ON_SETS)


def best_baselines(summary: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """The best baseline of each task as (method, prior): best on *validation* images.

    A baseline without validation images (one setting, nothing to choose) comes after those that have them.
    """
    chosen = {}
    baselines = summary[(summary["selected_by"] == "validation") & summary["baseline"]]
    for task, lines in baselines.groupby("task", sort=False):
        best = lines.iloc[int(np.argmax(lines[VALIDATION].fillna(-np.inf).to_numpy()))]
        chosen[str(task)] = (str(best["method"]), str(best["prior"]))
    return chosen


def paired_differences(rows: pd.DataFrame, summary: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Every method minus every other on the test images both solved, with 95 % bootstrap intervals.

    Both stand with the setting that validation images chose. Positive: `method` is better than `other`, but for metrics
    of which less is better.
    """
    baselines = best_baselines(summary)
    metrics = [one for one in known(rows) if one.interval]
    lines = []
    for task, group in summary[summary["selected_by"] == "validation"].groupby("task", sort=False):
        values = {}
        for line in group.itertuples():
            images = _test_rows(rows, (task, line.method, line.prior), str(line.setting))
            values[str(line.method), str(line.prior)] = pd.DataFrame(
                {one.name: one.values(images) for one in metrics}, index=images["image"]
            )
        for here, ours in values.items():
            for there, theirs in values.items():
                common = ours.index[ours.index.isin(theirs.index)]
                if here == there or common.empty:
                    continue
                names = dict(zip(FIRST_PAIRED[:6], (task, *here, *there, len(common)), strict=True))
                entry: dict[str, Any] = names | {"other_is_best_baseline": baselines.get(str(task)) == there}
                for one in metrics:
                    difference = (ours.loc[common, one.name] - theirs.loc[common, one.name]).to_numpy()
                    ends = bootstrap_interval(difference, seed)
                    entry |= dict(zip(one.paired, (difference.mean(), *ends), strict=True))
                lines.append(entry)
    return _in_order(lines, FIRST_PAIRED)


def metrics_of(summary: pd.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """The validation-selected lines as nested numbers, for DVC's metrics.

    What only some methods or machines have stands where it is a number, everything else is None where it is none.
    """
    lines = summary[summary["selected_by"] == "validation"]
    several = lines.groupby("method")["prior"].nunique() > 1
    reported = [one for one in METRICS if one.name in summary and not one.convention]
    nested: dict[str, dict[str, dict[str, Any]]] = {}
    for line in lines.to_dict("records"):
        name = f"{line['method']}/{line['prior']}" if several[line["method"]] else line["method"]
        told = [one for one in reported if np.isfinite(line[one.name]) or (one.needs == "images" and not one.optional)]
        keys = [key for one in told for key in one.columns if not key.endswith("_std")]
        numbers = {key: line[key] if np.isfinite(line[key]) else None for key in (*keys, "seconds_per_image", "passes")}
        counts: dict[str, float] = {"n": int(line["n"]), "n_diverged": int(line["n_diverged"])}
        if np.isfinite(line["converged"]):
            counts["converged"] = float(line["converged"])
        nested.setdefault(line["task"], {})[name] = {**numbers, **counts}
    return nested


def _in_order(lines: list[dict[str, Any]], first: Sequence[str]) -> pd.DataFrame:
    """A table whose columns begin with these."""
    others = [name for name in (lines[0] if lines else ()) if name not in first]
    return pd.DataFrame(lines, columns=[*first, *others])


def _test_rows(rows: pd.DataFrame, line: tuple[Any, ...], setting: str, split: str = "test") -> pd.DataFrame:
    mask = (rows["split"] == split) & (rows["setting"] == setting)
    for name, value in zip(LINE, line, strict=True):
        mask &= rows[name] == value
    return rows[mask]
