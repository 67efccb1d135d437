"""The few numbers behind `dvc plots show`: how training went, quality against cost, quality by setting.

Tables of text and numbers that stay small, so that Git can have those of every commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from flowprior.evaluation.registry import CHOSEN_BY
from flowprior.evaluation.selection import setting_means

#: Points kept of one curve; a long training logs thousands.
POINTS = 100
_LINE = ["task", "method", "prior"]


class Plots(NamedTuple):
    """What DVC draws; `line` names what a reader tells apart by colour.

    Attributes:
        training: flow, line, images ("training" or "validation"), step, seconds, bits_per_dim.
        curves: task, line, setting, passes, seconds, psnr: means over test images on the way, of the setting
            that validation images chose.
        settings: task, line, setting, images ("validation" or "test"), psnr, chosen ("yes" or "no").
    """

    training: pd.DataFrame
    curves: pd.DataFrame
    settings: pd.DataFrame


def plots_of(
    histories: Mapping[str, pd.DataFrame], rows: pd.DataFrame, traces: pd.DataFrame, summary: pd.DataFrame
) -> Plots:
    """The tables that DVC draws.

    Args:
        histories: flow -> history of its training, in the experiment's order.
        rows: one per image and setting.
        traces: points along the way of each.
        summary: of `evaluate`.
    """
    chosen = summary[summary["selected_by"] == "validation"]
    return Plots(training_table(histories), curves_table(traces, chosen), settings_table(rows, chosen))


def training_table(histories: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Bits per dimension of every flow along its training."""
    columns = ["flow", "line", "images", "step", "seconds", "bits_per_dim"]
    parts = [pd.DataFrame(columns=columns)]
    for flow, history in histories.items():
        for images, column in (
            ("training", "loss_bits_per_dim"),
            ("validation", "validation_bits_per_dim"),
        ):
            if column not in history:
                continue
            points = history[["step", "seconds", column]].rename(columns={column: "bits_per_dim"})
            points = _thinned(points[np.isfinite(points["bits_per_dim"].astype(float))])
            parts.append(points.assign(flow=flow, line=flow, images=images)[columns])
    return _joined(parts)


def curves_table(traces: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Mean PSNR of every method on the way, against what was spent.

    Args:
        traces: of all settings.
        chosen: one line of the summary per task, method and prior.
    """
    columns = [*_LINE, "line", "setting", "passes", "seconds", CHOSEN_BY]
    parts = [pd.DataFrame(columns=columns)]
    for entry, line in zip(chosen.to_dict("records"), _labels(chosen), strict=True):
        mask = (traces["split"] == "test") & (traces["setting"] == entry["setting"])
        for name in _LINE:
            mask &= traces[name] == entry[name]
        curve = cost_curve(traces[mask])
        # The time axis is logarithmic: a start that cost nothing has no place on it.
        curve = _thinned(curve[curve["seconds"] > 0])
        facts = {name: entry[name] for name in (*_LINE, "setting")}
        parts.append(curve.assign(**facts, line=line)[columns])
    return _joined(parts)


def settings_table(rows: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Mean PSNR of every setting on each split.

    Args:
        rows: one per image and setting.
        chosen: one line of the summary per task, method and prior.
    """
    means = setting_means(rows)
    picked = set(chosen[[*_LINE, "setting"]].itertuples(index=False, name=None))
    is_picked = [key in picked for key in means[[*_LINE, "setting"]].itertuples(index=False, name=None)]
    means = means.assign(
        line=_labels(means), images=means["split"], chosen=np.where(np.array(is_picked, dtype=bool), "yes", "no")
    )
    return means[[*_LINE, "line", "setting", "images", CHOSEN_BY, "chosen"]].reset_index(drop=True)


def cost_curve(traces: pd.DataFrame) -> pd.DataFrame:
    """Mean cost and quality along the way of one setting: passes, seconds, psnr, as `means_along`."""
    return means_along(traces, ("passes", "seconds", CHOSEN_BY)).dropna()


def means_along(traces: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Means over images along the way of one setting.

    The k-th points of all images are averaged; an image that stopped early keeps its last point, so that no
    image leaves the mean.

    Args:
        traces: points of several images with image and the columns, in order per image.
        columns: what is averaged.

    Returns:
        These columns, one line per k; NaN where an image has no number yet.
    """
    if traces.empty:
        return pd.DataFrame({name: [] for name in columns}, dtype=float)
    order = traces.groupby("image", sort=False).cumcount()
    table = traces.assign(k=order).pivot(index="k", columns="image", values=list(columns)).ffill()
    return pd.DataFrame(
        {name: np.asarray(table[name], dtype=float).reshape(len(table), -1).mean(1) for name in columns}
    )


def _labels(table: pd.DataFrame) -> list[str]:
    """The method of each line, with its prior where the method ran with several."""
    several = table.groupby("method")["prior"].nunique() > 1
    return [
        f"{method} ({prior})" if several[method] else str(method)
        for method, prior in table[["method", "prior"]].itertuples(index=False, name=None)
    ]


def _thinned(points: pd.DataFrame) -> pd.DataFrame:
    """At most `POINTS` of them at equal distances, the first and the last included."""
    kept = np.unique(np.linspace(0, len(points) - 1, min(len(points), POINTS)).round().astype(int))
    return points.iloc[kept]


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """One table; the first part gives the columns where there is nothing else."""
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]
