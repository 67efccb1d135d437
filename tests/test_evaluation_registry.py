"""A metric is one line: what is declared reaches rows, tables, records and pages, and is named nowhere else."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from report_fixture import fabricate, tiny_experiment

from flowprior.evaluation import evaluate, registry
from flowprior.evaluation.registry import CHOSEN_BY, FIRST_COLUMNS, METRICS, available, metric
from flowprior.report import build
from flowprior.report.latex import latex_tables
from flowprior.report.results import load
from flowprior.report.tables import results_table

SOURCE = Path(registry.__file__).parents[1]
#: Where a metric's name is that of a function, of a trace's column, or of a paper's own table.
NAMED = {
    "evaluation/__init__.py",
    "evaluation/metrics.py",
    "evaluation/perceptual.py",
    "evaluation/registry.py",
    "evaluation/rounding.py",
    "experiment/inversion.py",
    "models/denoiser.py",
    "training/supervised.py",
    "provenance/recomputing.py",
    "report/latex.py",
    "report/page.py",
    "report/published.py",
    "report/tables.py",
    "report/uncertainty.py",
    "studies/published/__init__.py",
    "studies/start_spread.py",
}


@pytest.fixture
def results(tmp_path):
    experiment = tiny_experiment()
    fabricate(tmp_path, experiment)
    return load(experiment, tmp_path)


@pytest.mark.parametrize("one", available(), ids=lambda one: one.name)
def test_every_metric_gives_one_value_an_image_and_nan_where_a_result_lacks_what_it_needs(one):
    truth = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images = (truth + 0.1).clamp(0, 1)
    told = one.of(SimpleNamespace(images=images, std=torch.full_like(images, 0.1), samples=None), truth)
    assert told.shape == (3,)
    assert told.dtype == torch.float64
    assert told.isfinite().all()
    if one.needs == "posterior":
        assert one.of(SimpleNamespace(images=images, std=None, samples=None), truth).isnan().all()


def test_metrics_have_names_of_their_own_and_settings_are_chosen_by_one_of_them():
    names = [one.name for one in METRICS]
    assert len(set(names)) == len(names)
    assert metric(CHOSEN_BY).interval
    assert metric(CHOSEN_BY) is METRICS[0]


def test_a_new_metric_reaches_every_table(results, monkeypatch):
    new = registry.Metric("sharp", "nowhere", "Sharpness", 4, better="lower")
    monkeypatch.setattr(registry, "METRICS", (*METRICS, new))
    rows = results.rows.assign(sharp=np.linspace(0, 1, len(results.rows)))
    summary, paired, *_ = evaluate(rows)
    assert list(summary.columns[: len(FIRST_COLUMNS)]) == list(FIRST_COLUMNS)
    assert {"sharp", "sharp_low", "sharp_high", "sharp_std"} <= set(summary.columns[len(FIRST_COLUMNS) :])
    assert {"sharp_difference", "sharp_low", "sharp_high"} <= set(paired.columns)
    changed = SimpleNamespace(**{**vars(results), "summary": summary})
    assert new in registry.compared(changed.summary)


def test_rows_of_before_a_metric_was_there_are_still_read(results, tmp_path):
    old = [name for name in results.rows if name not in ("haarpsi", "coverage", "crps", "lpips")]
    summary, paired, *_ = evaluate(results.rows[old])
    assert summary["haarpsi"].isna().all()
    assert summary["n_diverged"].sum() == 0
    assert summary["psnr"].notna().all()
    results.rows[old].to_parquet(results.layout.evaluated("rows"))
    for table, name in ((summary, "summary"), (paired, "paired")):
        keep = [column for column in table if not column.startswith(("haarpsi", "coverage", "crps", "lpips"))]
        table[keep].to_csv(results.layout.results / f"{name}.csv", index=False)
    before = load(results.experiment, tmp_path)
    assert [one.label for one in before.metrics] == ["PSNR", "SSIM"]
    assert len(results_table(before))
    assert "HaarPSI" not in "".join(latex_tables(before).values())
    build(results.experiment, tmp_path)
    page = results.layout.page.read_text()
    assert "SSIM" in page and "HaarPSI" not in page


def test_better_is_less_where_it_says_so(results):
    from flowprior.report.tables import best

    lines = [{"n": 3, "ssim": 0.4, "crps": 0.4}, {"n": 3, "ssim": 0.2, "crps": 0.2}]
    assert best(lines, metric("ssim")) == 0.4
    assert best(lines, metric("crps")) == 0.2


def test_no_metric_is_named_beside_its_declaration():
    names = "|".join(one.name for one in METRICS)
    pattern = re.compile(rf"""["'`](?:{names})(?:_low|_high|_std|_difference)?["'`]""")
    found = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if pattern.search(path.read_text())}
    assert found <= NAMED, sorted(found - NAMED)
    assert not pattern.search((SOURCE / "report/page.html").read_text())
