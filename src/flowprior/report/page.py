"""The report: figures, tables, and one self-contained HTML page."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from flowprior.experiment.params import Experiment
from flowprior.files import replacing
from flowprior.provenance.collected import collect, hashes
from flowprior.provenance.reproducing import settings_text
from flowprior.provenance.source import UNKNOWN
from flowprior.provenance.times import JobEntry, step_times
from flowprior.report import costs, figures, grids, latex, origins, priors, style, sweeps, tables, uncertainty
from flowprior.report.formats import between, count, duration, interval, number, signed, unit, verdict, written
from flowprior.report.grids import Grid
from flowprior.report.measured import LEAST_NORM
from flowprior.report.published import OFFSET
from flowprior.report.results import Results, load, read_json
from flowprior.report.tables import best
from flowprior.report.uncertainty import Group
from flowprior.studies.registry import REGISTRY as STUDIES


def build(
    experiment: Experiment,
    root: Path,
    skipped: Mapping[str, str] | None = None,
    asked: Experiment | None = None,
) -> None:
    """Write every file that `report_files(experiment)` names.

    Reads only files that follow from the experiment, below `root`. Each file appears whole or not at all, and
    what the page was made of last.

    Args:
        experiment: what ran.
        root: the repository root.
        skipped: method -> why it did not run; the page says so.
        asked: the experiment with the skipped methods; default: there were none.

    Raises:
        FlowpriorError: the experiment was not evaluated yet, or names an unknown reference.
    """
    root, asked = Path(root), asked or experiment
    results = load(experiment, root, skipped)
    layout = results.layout
    write_tables(results)
    reconstructions = [grids.make_grid(results, task) for task in experiment.tasks]
    certain = uncertainty.certainties(results)
    write_figures(results, reconstructions, certain)
    with replacing(layout.settings) as part:
        part.write_text(settings_text(asked), encoding="utf-8")
    provenance = collect(experiment, root, asked)
    html = render(results, reconstructions, certain, provenance)
    with replacing(layout.page) as part:
        part.write_text(html, encoding="utf-8")
    provenance["files"] |= hashes(root, [layout.page])
    with replacing(layout.provenance) as part:
        part.write_text(json.dumps(provenance, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tables(results: Results) -> None:
    """Write every table as CSV and LaTeX."""
    frames = {
        "results": tables.results_table(results),
        "selection": tables.selection_table(results),
        "paired": tables.paired_table(results),
        "hyperparameters": tables.hyperparameter_table(results),
    }
    if results.reference:
        frames["published"] = tables.published_table(results, results.reference)
    for name, frame in frames.items():
        with replacing(results.layout.table(name).with_suffix(".csv")) as part:
            frame.to_csv(part, index=False)
    for name, text in latex.latex_tables(results).items():
        with replacing(results.layout.table(name).with_suffix(".tex")) as part:
            part.write_text(text, encoding="utf-8")


def write_figures(results: Results, reconstructions: list[Grid], certain: list[Group]) -> None:
    """Write every figure as PNG and PDF."""
    makers: dict[str, Callable[[], Figure]] = {
        **{f"grid_{grid.task}": lambda grid=grid: grids.figure(grid) for grid in reconstructions},  # type: ignore[misc]
        "uncertainty": lambda: uncertainty.uncertainty_figure(certain),
        "paired": lambda: figures.paired_figure(results),
        "psnr_vs_seconds": lambda: figures.cost_figure(results, "seconds"),
        "psnr_vs_passes": lambda: figures.cost_figure(results, "passes"),
        "hyperparameters": lambda: sweeps.hyperparameter_figure(results),
        "training": lambda: priors.training_figure(results),
        **{
            f"samples_{prior}": lambda prior=prior: priors.samples_figure(results, prior)  # type: ignore[misc]
            for prior in results.experiment.flows
        },
    }
    with style.styled():
        for name, make in makers.items():
            style.save(make(), results.layout.figure(name))


def render(results: Results, reconstructions: list[Grid], certain: list[Group], provenance: Mapping[str, Any]) -> str:
    """The page as HTML; nothing in it refers to another file or address, or to the moment it is written.

    Args:
        results: what was measured.
        reconstructions: a grid for each task.
        certain: methods that say how sure they are.
        provenance: what `flowprior.provenance.collected.collect` found.
    """
    experiment, versions = results.experiment, provenance["written"]["versions"]
    reference = results.reference
    steps = step_times(JobEntry(**job) for job in provenance["jobs"])
    environment = Environment(
        loader=PackageLoader("flowprior.report", "."),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {one.__name__: one for one in (number, unit, signed, duration, count)}
    environment.tests["finite"] = math.isfinite
    environment.globals |= {
        one.__name__: one for one in (written, between, interval, verdict, best, png, uri, read_json)
    }
    css = environment.get_template("page.css").render()
    return environment.get_template("page.html").render(
        css=Markup(css),  # our own file, no text of a user's in it
        experiment=experiment,
        results=results,
        layout=results.layout,
        metrics=results.metrics,
        first=results.metrics[0],
        headlines=(found := tables.headlines(results)),
        key_sentence=tables.key_sentence(found),
        reference=reference,
        offset=OFFSET,
        published=tables.published_table(results, reference).to_dict("records") if reference else None,
        edges=[f"{task} by {line.label}, {setting}" for task, line, setting in sweeps.at_an_edge(results)],
        least_norm=LEAST_NORM,
        costs={task: costs.cost_table(results, task) for task in experiment.tasks if results.lines_on(task)},
        certain=bool(certain),
        grids=reconstructions,
        trainings=experiment.trainings(),
        studies={
            name: STUDIES.get(asked.study).caption
            for name, asked in experiment.studies.items()
            if results.layout.study(name, "figure").exists()
        },
        provenance=provenance,
        versions=versions,
        unknown=UNKNOWN,
        manifest=origins.facts(read_json(results.layout.prepared("manifest"))),
        hashes=origins.hash_rows(provenance),
        steps=steps,
        settings=yaml.safe_dump(provenance["settings"], sort_keys=False, allow_unicode=True),
        diverged=int(results.summary.loc[results.summary["selected_by"] == "validation", "n_diverged"].sum()),
    )


def png(pixels: np.ndarray) -> bytes:
    """A picture, uint8 of shape (H, W, 3), as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def uri(content: bytes) -> str:
    """A picture's PNG as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")
