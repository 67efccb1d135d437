"""Which setting stands for a method: chosen on validation images, beside the paper's values and the oracle.

A *line* is a (task, method, prior); each of its settings was solved on the same images. Test images never
decide anything on the `validation` line; the `oracle` line shows what that honesty costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowprior.errors import FlowpriorError
from flowprior.evaluation.registry import CHOSEN_BY, judging, known

if TYPE_CHECKING:
    import pandas as pd

LINE = ["task", "method", "prior"]
SELECTIONS = ("validation", "paper", "oracle")


def check_rows(rows: pd.DataFrame) -> None:
    """Refuse rows from which no fair mean can be formed.

    Raises:
        FlowpriorError: an image has two rows of the same setting, or the settings of a line were solved on
            different images, so that choosing between them would compare different problems.
    """
    if rows.empty:
        raise FlowpriorError("there are no rows to evaluate; run the reconstructions first")
    key = [*LINE, "split", "setting", "image"]
    twice = rows[rows.duplicated(key)]
    if len(twice):
        raise FlowpriorError(f"two rows for {_named(twice.iloc[0], key)}; delete the stale chunk and run again")
    for (*line, split), group in rows.groupby([*LINE, "split"], sort=False):
        images = group.groupby("setting", sort=False)["image"].agg(frozenset)
        if images.nunique() > 1:
            odd = images.map(len).idxmin()
            raise FlowpriorError(
                f"{' / '.join(map(str, line))}: setting '{odd}' was solved on other {split} images than the "
                "rest; run its reconstructions again"
            )


def setting_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Means of every setting on every split, in the order of the rows.

    Returns:
        One line per (task, method, prior, setting, split): those columns, solver, settings, paper, n,
        n_diverged, the metrics with an interval, seconds_per_image, passes. A mean over a NaN is NaN.
    """
    metrics = [one for one in known(rows) if one.interval]
    work = rows.assign(failed=diverged(rows), **{one.name: one.values(rows) for one in metrics})
    groups = work.groupby([*LINE, "setting", "split"], sort=False)
    return groups.agg(
        solver=("solver", "first"),
        settings=("settings", "first"),
        paper=("paper", "first"),
        n=("image", "size"),
        n_diverged=("failed", "sum"),
        **{one.name: (one.name, _mean) for one in metrics},
        seconds_per_image=("seconds", _mean),
        passes=("passes", _mean),
    ).reset_index()


def diverged(rows: pd.DataFrame) -> np.ndarray:
    """Which rows failed: marked so by the solver, or without a finite quality."""
    failed = (rows["status"] != "ok").to_numpy()
    for one in judging(rows):
        failed = failed | ~np.isfinite(one.values(rows))
    return failed


def choose(means: pd.DataFrame) -> dict[str, str]:
    """The setting of one line under each way of selecting.

    Args:
        means: `setting_means` of one (task, method, prior).

    Returns:
        "validation" -> best mean (`CHOSEN_BY`) on validation images, "paper" -> the paper's fixed values where they
        are known, "oracle" -> best mean (`CHOSEN_BY`) on test images. The first of equals wins; a NaN is the worst.

    Raises:
        FlowpriorError: several settings and no validation images to choose with.
    """
    line = " / ".join(str(means.iloc[0][name]) for name in LINE)
    test = means[means["split"] == "test"]
    validation = means[means["split"] == "validation"]
    if test.empty:
        raise FlowpriorError(f"{line}: no test rows; run its reconstructions first")
    missing = set(test["setting"]) - set(validation["setting"])
    if missing and len(test) > 1:
        raise FlowpriorError(
            f"{line}: setting '{min(missing)}' has no validation rows; one of several settings can only "
            "be chosen on validation images"
        )
    validation = validation[validation["setting"].isin(test["setting"])]
    chosen = {"validation": _best(validation) if len(validation) else str(test["setting"].iloc[0])}
    paper = test[test["paper"].astype(bool)]
    if len(paper):
        chosen["paper"] = str(paper["setting"].iloc[0])
    chosen["oracle"] = _best(test)
    return chosen


def _best(means: pd.DataFrame) -> str:
    scores = means[CHOSEN_BY].fillna(-np.inf).to_numpy()
    return str(means["setting"].iloc[int(np.argmax(scores))])


def _mean(values: pd.Series) -> float:
    return float(values.to_numpy(dtype=float).mean())


def _named(row: pd.Series, key: list[str]) -> str:
    return ", ".join(f"{name} '{row[name]}'" for name in key)
