"""Everything that is reported, derived from rows and from nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flowprior.evaluation.selection import LINE, check_rows, choose, diverged, setting_means
from flowprior.evaluation.statistics import (
    PSNR_CAP,
    bootstrap_interval,
    capped,
    describe,
    pooled_psnr_chavez2021,
)

SUMMARY_COLUMNS = [
    *("task", "method", "setting", "selected_by", "n", "n_diverged", "psnr", "psnr_low", "psnr_high", "ssim"),
    *(
        "seconds_per_image",
        "evaluations",
        "ssim_low",
        "ssim_high",
        "psnr_chavez2021",
        "prior",
        "solver",
        "dataset",
    ),
    *("bits", "psnr_std", "ssim_std", "psnr_chavez2021_pooled", "validation_psnr", "baseline", "converged"),
    *("coverage", "crps"),
]
PAIRED_COLUMNS = [
    *("task", "method", "prior", "other", "other_prior", "n", "psnr_difference", "low", "high"),
    *("ssim_difference", "ssim_low", "ssim_high", "other_is_best_baseline"),
]
#: `PSNR_CAP` on the scale of Chávez 2021.
CHAVEZ_CAP = (PSNR_CAP + 20 * float(np.log10(255))) / 2
METRICS = (
    "psnr",
    "psnr_low",
    "psnr_high",
    "ssim",
    "ssim_low",
    "ssim_high",
    "seconds_per_image",
    "evaluations",
)


class Evaluation(NamedTuple):
    """What follows from an experiment's rows.

    Attributes:
        summary: one line per (task, method, prior, selected_by), on test images.
        paired: one line per ordered pair of methods on a task, both as selected on validation images.
        metrics: {task: {method: {metric: value}}} of the validation-selected lines; `method/prior` where a
            method ran with several priors. None stands for what is not a number.
    """

    summary: pd.DataFrame
    paired: pd.DataFrame
    metrics: dict[str, dict[str, dict[str, Any]]]


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
    return Evaluation(summary, paired_differences(rows, summary, seed), metrics_of(summary))


def summarise(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One line per (task, method, prior, selected_by); see `SUMMARY_COLUMNS`."""
    lines = []
    for line, means in setting_means(rows).groupby(LINE, sort=False):
        validation = means[means["split"] == "validation"].set_index("setting")["psnr"]
        for selected_by, setting in choose(means).items():
            images = _test_rows(rows, line, setting)
            first = images.iloc[0]
            psnr = describe(capped(images["psnr"].to_numpy()), seed)
            printed = np.minimum(images["psnr_chavez2021"].to_numpy(dtype=float), CHAVEZ_CAP)
            ssim = describe(images["ssim"].to_numpy(), seed)
            lines.append(
                {
                    **dict(zip(LINE, line, strict=True)),
                    **{name: first[name] for name in ("solver", "dataset", "bits")},
                    "baseline": bool(first["baseline"]),
                    "setting": setting,
                    "selected_by": selected_by,
                    "n": len(images),
                    "n_diverged": int(diverged(images).sum()),
                    "psnr": psnr.mean,
                    "psnr_std": psnr.std,
                    "psnr_low": psnr.low,
                    "psnr_high": psnr.high,
                    "ssim": ssim.mean,
                    "ssim_std": ssim.std,
                    "ssim_low": ssim.low,
                    "ssim_high": ssim.high,
                    "seconds_per_image": float(images["seconds"].mean()),
                    "evaluations": float(images["evaluations"].mean()),
                    "psnr_chavez2021": float(printed.mean()),
                    "psnr_chavez2021_pooled": pooled_psnr_chavez2021(capped(images["psnr"].to_numpy())),
                    # Rows of an older version do not say.
                    "converged": float(images["converged"].mean()) if "converged" in images else np.nan,
                    "validation_psnr": float(validation.get(setting, np.nan)),
                    **{name: _certainty(images, name) for name in ("coverage", "crps")},
                }
            )
    return pd.DataFrame(lines, columns=SUMMARY_COLUMNS)


def best_baselines(summary: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """The best baseline of each task as (method, prior): best mean PSNR on *validation* images.

    A baseline without validation images (one setting, nothing to choose) comes after those that have them.
    """
    chosen = {}
    baselines = summary[(summary["selected_by"] == "validation") & summary["baseline"]]
    for task, lines in baselines.groupby("task", sort=False):
        best = lines.iloc[int(np.argmax(lines["validation_psnr"].fillna(-np.inf).to_numpy()))]
        chosen[str(task)] = (str(best["method"]), str(best["prior"]))
    return chosen


def paired_differences(rows: pd.DataFrame, summary: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Every method minus every other on the test images both solved, with 95 % bootstrap intervals.

    Both stand with the setting that validation images chose. Positive: `method` is better than `other`.
    """
    baselines = best_baselines(summary)
    lines = []
    for task, group in summary[summary["selected_by"] == "validation"].groupby("task", sort=False):
        quality = {}
        for line in group.itertuples():
            images = _test_rows(rows, (task, line.method, line.prior), str(line.setting))
            images = images.assign(psnr=capped(images["psnr"].to_numpy()))
            quality[str(line.method), str(line.prior)] = images.set_index("image")[["psnr", "ssim"]]
        for here, ours in quality.items():
            for there, theirs in quality.items():
                common = ours.index[ours.index.isin(theirs.index)]
                if here == there or common.empty:
                    continue
                difference = ours.loc[common] - theirs.loc[common]
                psnr, ssim = difference["psnr"].to_numpy(), difference["ssim"].to_numpy()
                values = (
                    psnr.mean(),
                    *bootstrap_interval(psnr, seed),
                    ssim.mean(),
                    *bootstrap_interval(ssim, seed),
                )
                lines.append((task, *here, *there, len(common), *values, baselines.get(str(task)) == there))
    return pd.DataFrame(lines, columns=PAIRED_COLUMNS)


def metrics_of(summary: pd.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """The validation-selected lines as nested numbers, for DVC's metrics."""
    lines = summary[summary["selected_by"] == "validation"]
    several = lines.groupby("method")["prior"].nunique() > 1
    nested: dict[str, dict[str, dict[str, Any]]] = {}
    for line in lines.to_dict("records"):
        name = f"{line['method']}/{line['prior']}" if several[line["method"]] else line["method"]
        numbers = {key: line[key] if np.isfinite(line[key]) else None for key in METRICS}
        counts: dict[str, float] = {"n": int(line["n"]), "n_diverged": int(line["n_diverged"])}
        if np.isfinite(line["converged"]):
            counts["converged"] = float(line["converged"])
        nested.setdefault(line["task"], {})[name] = {**numbers, **counts}
    return nested


def _certainty(images: pd.DataFrame, name: str) -> float:
    """The mean of what only methods with a posterior have; NaN where one of the images has none."""
    return float(images[name].mean(skipna=False)) if name in images else float("nan")


def _test_rows(rows: pd.DataFrame, line: tuple[Any, ...], setting: str) -> pd.DataFrame:
    mask = (rows["split"] == "test") & (rows["setting"] == setting)
    for name, value in zip(LINE, line, strict=True):
        mask &= rows[name] == value
    return rows[mask]
