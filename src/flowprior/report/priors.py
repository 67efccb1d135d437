"""Figures of the flows themselves: samples over temperatures and the course of training."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from flowprior.report.results import Results, read_history, read_json
from flowprior.report.style import TEXT_WIDTH, message, new_figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA3377", "#E69F00", "#56B4E9")


def samples_figure(results: Results, prior: str) -> Figure:
    """A row of samples per temperature, as figure 6 of Chávez 2021."""
    path = results.layout.flow(prior, "samples")
    if not path.exists():
        figure = new_figure(TEXT_WIDTH, 1)
        message(figure, f"No samples of {prior}.")
        return figure
    samples = np.load(path, allow_pickle=False)
    temperatures = read_json(results.layout.flow(prior, "config")).get("temperatures", [])
    n_rows, n_columns, height, width = samples.shape[:4]
    sheet = samples.transpose(0, 2, 1, 3, 4).reshape(n_rows * height, n_columns * width, 3)
    figure = new_figure(TEXT_WIDTH, (TEXT_WIDTH - 0.5) * sheet.shape[0] / sheet.shape[1] + 0.1)
    axis = figure.subplots()
    axis.imshow(sheet, interpolation="nearest")
    labels = [f"{value:g}" for value in temperatures[:n_rows]]
    axis.set_yticks([height * (i + 0.5) for i in range(len(labels))], labels)
    axis.set_xticks([])
    axis.set_ylabel("temperature")
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    return figure


def training_figure(results: Results) -> Figure:
    """Bits per dimension against steps and minutes, on training (thin) and validation images (marked)."""
    figure = new_figure(TEXT_WIDTH, 2.3)
    histories = {
        prior: history
        for prior in results.experiment.flows
        if not (history := read_history(results.layout.flow(prior, "history"))).empty
    }
    if not histories:
        message(figure, "No flow was trained.")
        return figure
    axes = figure.subplots(1, 2, sharey=True)
    shown: list[float] = []
    for index, (prior, history) in enumerate(histories.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        validation = history.dropna(subset=["validation_bits_per_dim"])
        for axis, time in zip(axes, (history["step"], history["seconds"] / 60), strict=True):
            axis.plot(time, history["loss_bits_per_dim"], color=colour, linewidth=0.7, alpha=0.5)
            axis.plot(
                time[validation.index],
                validation["validation_bits_per_dim"],
                color=colour,
                marker="o",
                markersize=3,
                label=f"{prior} (validation)",
            )
        # The first steps are far above everything that follows and would flatten the curves.
        late = history["loss_bits_per_dim"].iloc[len(history) // 20 :]
        shown += [*late.dropna().quantile([0.0, 0.98]), *validation["validation_bits_per_dim"].iloc[-1:]]
    finite = [value for value in shown if np.isfinite(value)]
    if finite and max(finite) > min(finite):
        margin = 0.06 * (max(finite) - min(finite))
        axes[0].set_ylim(min(finite) - margin, max(finite) + margin)
    axes[0].set_ylabel("bits per dimension")
    axes[0].set_xlabel("training steps (thin: training batches)")
    axes[1].set_xlabel("minutes")
    axes[1].legend(loc="upper right")
    return figure
