"""The report says what the rows say, stands alone, and tells of what is missing."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from report_fixture import SIDE, fabricate, tiny_experiment, write_evaluation

from flowprior import operators
from flowprior.errors import FlowpriorError, UnknownNameError
from flowprior.evaluation.plots import cost_curve
from flowprior.evaluation.statistics import describe, pooled_psnr_chavez2021
from flowprior.experiment.loading import load_experiment
from flowprior.experiment.plan import is_baseline, jobs
from flowprior.images.checksums import of_file
from flowprior.images.quantise import to_pixels
from flowprior.report import Layout, build, report_files
from flowprior.report.costs import cost_table, training_seconds, with_training
from flowprior.report.figures import cost_figure
from flowprior.report.formats import count, duration, number, signed, unit
from flowprior.report.grids import make_grid
from flowprior.report.lines import lines_of
from flowprior.report.published import REFERENCES, reference_of
from flowprior.report.results import load
from flowprior.report.uncertainty import certainties

ROOT = Path(__file__).parent.parent
ONE_TASK = {"denoising": {"operator": "identity"}}


class Page(HTMLParser):
    """What a page refers to, and the text of its table cells by section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.cells: dict[str, list[list[str]]] = {}
        self._section = ""
        self._cell: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.references += [values[name] for name in ("src", "href", "srcset", "action", "data") if values.get(name)]
        if tag == "section":
            self._section = values["id"]
        if tag == "tr":
            self.cells.setdefault(self._section, []).append([])
        if tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._cell is not None:
            self.cells[self._section][-1].append(" ".join("".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell.append(data)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    experiment = tiny_experiment()
    fabricate(root, experiment)
    build(experiment, root, skipped={"csgm": "it needs a <missing> module"})
    return experiment, root


@pytest.fixture(scope="module")
def html(built):
    experiment, root = built
    return Layout(experiment, root).page.read_text()


@pytest.fixture(scope="module")
def results(built):
    experiment, root = built
    return load(experiment, root)


def test_it_writes_exactly_the_files_it_names(built):
    experiment, root = built
    layout = Layout(experiment, root)
    written = [
        layout.page,
        layout.provenance,
        layout.settings,
        *(layout.results / "figures").iterdir(),
        *(layout.results / "tables").iterdir(),
    ]
    assert sorted(report_files(experiment)) == sorted(path.relative_to(root).as_posix() for path in written)
    assert all(path.stat().st_size > 100 for path in written)


def test_the_page_needs_nothing_but_itself(html):
    references = Page(html).references
    assert len(references) > 20
    assert all(reference.startswith(("data:image/png;base64,", "#")) for reference in references)
    for pattern in (r"https?://", r"url\(", r"@import", r"//cdn"):
        assert not re.search(pattern, html)


def test_flows_and_generators_stand_beside_each_other(html):
    table = html[html.index('<section id="models">') : html.index('<section id="provenance">')]
    assert "energy score of samples" in table and "<td>4.29</td><td>0.1234</td>" in table


def test_training_stands_beside_what_an_image_costs(html, results):
    rows = Page(html).cells["cost"]
    map_line, linear = (next(line for line in results.lines if line.method == name) for name in ("map", "linear_mmse"))
    for task in results.experiment.tasks:
        found = cost_table(results, task)
        seconds = [entry["chosen"]["seconds_per_image"] for entry in found]
        assert seconds == sorted(seconds) and {entry["line"] for entry in found} == set(results.lines_on(task))
        assert training_seconds(results, task, map_line) == 182.0
        entry = next(entry for entry in found if entry["line"] == map_line)
        spent = entry["chosen"]["seconds_per_image"]
        shown = ["map", number(entry["chosen"]["psnr"]), duration(spent), "3 min 2 s", count(182 / spent)]
        assert shown in rows
    assert [row[3] for row in rows if row[0] == "linear_mmse"] == ["—", "—"]
    assert (
        with_training(results, map_line) == "map, trained 3 min 2 s" and with_training(results, linear) == "linear_mmse"
    )


def test_models_for_one_task_each_are_counted_once_each(tmp_path):
    tasks = {
        "one": {"operator": "identity"},
        "two": {"operator": "center_mask"},
        "other": {"operator": "identity", "noise_std": 0.2, "trained_as": "one"},
    }
    methods = {"regressor": {}, "bm3d": {}}
    experiment = tiny_experiment(priors={"unet": {"model": "regressor"}}, tasks=tasks, methods=methods, reference=None)
    results = SimpleNamespace(experiment=experiment, layout=Layout(experiment, tmp_path), lines_on=lambda task: lines)
    lines = lines_of(experiment)
    assert with_training(results, lines[0]) == "regressor"  # nothing says how long it took
    for task, seconds in (("one", 60.0), ("two", 90.0)):
        config = results.layout.trained(experiment.training_of("unet", task), "config")
        config.parent.mkdir(parents=True)
        config.write_text(json.dumps({"seconds": seconds}))
    assert training_seconds(results, "other", lines[0]) == 60.0
    assert with_training(results, lines[0]) == "regressor, trained 2 min 30 s for 2 tasks"


def test_no_text_of_the_page_is_not_a_number(html):
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    found = re.search(r".{0,40}\b(nan|NaN|inf|None|undefined)\b.{0,40}", text)
    assert found is None, found


def test_what_a_user_wrote_is_escaped(html):
    assert "<h1>Tiny &amp; &lt;quick&gt;</h1>" in html
    assert "it needs a &lt;missing&gt; module" in html


def test_table_1_holds_the_means_of_the_rows(html, results):
    rows = Page(html).cells["results"]
    lines = {line.label: line for line in results.lines}
    task, seen = "", 0
    for cells in rows:
        if len(cells) == 1:
            task = cells[0]
        if cells[0] not in lines:
            continue
        line = lines[cells[0]]
        solved = results.rows[(results.rows["task"] == task) & (results.rows["method"] == line.method)]
        validation = solved[solved["split"] == "validation"].groupby("setting", sort=False)["psnr"].mean()
        (setting,) = [validation.idxmax()] if len(validation) else solved["setting"].unique()
        images = results.rows_of(task, line, setting)
        psnr, ssim, likeness = (describe(images[name].to_numpy(), 3) for name in ("psnr", "ssim", "haarpsi"))
        assert cells[1] == f"{number(psnr.mean)}[{number(psnr.low)}, {number(psnr.high)}]"
        assert cells[2] == number(psnr.std)
        assert cells[3] == f"{unit(ssim.mean)}[{unit(ssim.low)}, {unit(ssim.high)}]"
        assert cells[4] == f"{unit(likeness.mean)}[{unit(likeness.low)}, {unit(likeness.high)}]"
        assert cells[5] == setting
        assert cells[-1] == str(len(images))
        seen += 1
    assert seen == 7


def test_the_published_table_stands_beside_ours_in_both_conventions(html, results):
    table = Page(html).cells["published"]
    start = next(i for i, cells in enumerate(table) if cells == ["denoising"])
    cells = next(cells for cells in table[start:] if cells[0] == "chavez")
    chavez = next(line for line in results.lines if line.label == "chavez")
    chosen, fixed = (results.selected("denoising", chavez, by) for by in ("validation", "paper"))
    images = results.rows_of("denoising", chavez, chosen["setting"])
    assert cells[1:5] == ["Ours", "37.72", "27.31", ".918"]
    assert cells[5:8] == [
        number(pooled_psnr_chavez2021(images["psnr"].to_numpy())),
        number(chosen["psnr"]),
        unit(chosen["ssim"]),
    ]
    assert cells[8:11] == [
        number(fixed["psnr_chavez2021_pooled"]),
        number(fixed["psnr"]),
        unit(fixed["ssim"]),
    ]
    assert cells[11] == signed(chosen["psnr"] - (2 * 37.72 - 20 * np.log10(255)))
    assert "5 bits per channel, this experiment's 8" in html


@pytest.mark.parametrize(
    ("task", "solver", "true"),
    [
        ("denoising", "csgm", 26.69),
        ("deblurring", "glowip", 23.51),
        ("denoising", "bm3d", 27.17),
        ("inpainting", "chavez", 27.81),
        ("colorization", "chavez", 23.31),
    ],
)
def test_published_values_mean_the_documented_decibels(task, solver, true):
    assert reference_of("chavez2021").entry(task, solver, "any").psnr == pytest.approx(true, abs=0.011)
    assert len(REFERENCES["chavez2021"].entries) == 13


def test_tables_of_wei2022_are_told_apart_by_models():
    wei = reference_of("wei2022")
    assert wei.entry("deblurring", "unfolded", "glow_prox")[:2] == ("GLOW Prox", 40.549)
    assert math.isnan(wei.entry("deblurring", "unfolded", "glow_prox").ssim)
    assert wei.entry("denoising", "unfolded", "unet_denoiser") is None  # not printed
    assert wei.entry("inpainting_8", "unfolded", "unet_prox").psnr == 35.917
    assert wei.entry("deblurring", "unfolded", "unet_prox", "drawn").psnr == 26.224
    assert wei.entry("deblurring", "map", "glow_prox") is None
    assert wei.entry("deblurring", "unfolded", "glow_prox", "ffhq") is None
    assert (len(wei.entries), len(wei.sets["drawn"])) == (25, 9)


def test_a_published_table_without_a_convention_has_no_column_for_it(tmp_path, monkeypatch):
    """Beside its own images and another set's; the solver behind the paper's rows is named as ours for the test."""
    wei = REFERENCES["wei2022"]

    def rename(table):
        return {(task, "map", "flow_a"): entry for (task, _, model), entry in table.items() if model == "glow_prox"}

    sets = {name: rename(table) for name, table in wei.sets.items()}
    monkeypatch.setitem(REFERENCES, "wei2022", dataclasses.replace(wei, entries=rename(wei.entries), sets=sets))
    experiment = tiny_experiment(
        reference="wei2022", bits=8, test_sets={"drawn": {"source": "folder", "path": str(tmp_path), "test": 6}}
    )
    fabricate(tmp_path, experiment)
    build(experiment, tmp_path)
    layout = Layout(experiment, tmp_path)
    table = pd.read_csv(layout.table("published").with_suffix(".csv"))
    assert not [name for name in table if name.endswith("printed")]
    found = table[table["paper_row"] == "GLOW Prox"].set_index("task")["paper_psnr"]
    assert found.to_dict() == {"denoising": 28.236, "denoising, drawn": 22.102}
    rows = Page(layout.page.read_text()).cells["published"]
    assert ["denoising, drawn"] in rows and {len(row) for row in rows[2:] if len(row) > 1} == {10}
    assert "printed" not in layout.table("published").with_suffix(".tex").read_text()


def test_names_of_wei2022_are_those_of_its_experiment():
    wei, experiment = reference_of("wei2022"), load_experiment(ROOT / "params" / "wei2022.yaml")
    solved = {(job.split, (job.task, experiment.solver_of(job.method), job.prior)) for job in jobs(experiment)}
    for images, table in {"test": wei.entries, **wei.sets}.items():
        wanted = {(images, key) for key in table if not str(key[2]).endswith("_denoiser")}
        assert wanted and wanted <= solved


def test_a_table_that_prints_psnr_has_its_spread_and_no_printed_columns(tmp_path):
    experiment = tiny_experiment(
        tasks={"deblurring": {"operator": "box_blur", "settings": {"size": 7}}},
        methods={"synthesis": {}, "analysis": {"sweep": {"weight": [1.0e-5, 1.0e-4]}}},
        reference="oberlin2021",
    )
    fabricate(tmp_path, experiment)
    build(experiment, tmp_path)
    html = next(tmp_path.rglob("report.html")).read_text()
    table = Page(html).cells["published"]
    synthesis, analysis = (next(cells for cells in table if cells[0] == name) for name in ("synthesis", "analysis"))
    assert synthesis[1:4] == ["Synthesis", "23.38 ± 2.04", ".740 ± .090"]
    assert analysis[1:4] == ["Analysis", "32.16 ± 1.56", ".940 ± .010"]
    assert "square root too many" not in html and "64 pixels wide, this experiment" in html
    written = pd.read_csv(next(tmp_path.rglob("tables/published.csv")))
    assert not [name for name in written if name.endswith("printed")]
    latex = next(tmp_path.rglob("tables/published.tex")).read_text()
    assert "paper: PSNR" in latex and "printed" not in latex


def test_an_unknown_reference_names_the_nearest(tmp_path):
    experiment = tiny_experiment(reference="chaves2021")
    fabricate(tmp_path, experiment)
    with pytest.raises(UnknownNameError, match="did you mean 'chavez2021'"):
        build(experiment, tmp_path)


def test_figures_are_pictures_and_tables_are_what_the_page_shows(built, results):
    experiment, root = built
    layout = Layout(experiment, root)
    for name in report_files(experiment):
        path = root / name
        if path.suffix == ".png":
            pixels = np.asarray(Image.open(path).convert("RGB"))
            assert min(pixels.shape[:2]) > 150
            assert pixels.std() > 5
        if path.suffix == ".pdf":
            assert path.read_bytes().startswith(b"%PDF")
        if path.suffix == ".tex":
            text = path.read_text()
            assert text.count(r"\begin{") == text.count(r"\end{") > 0
            assert r"\toprule" in text and r"\bottomrule" in text
            assert "nan" not in text.replace("none", "").lower().split()
            body = [row for row in text.splitlines() if row.endswith(r"\\") and "&" in row]
            width = {row.replace(r"\&", "").count("&") for row in body if "multicolumn" not in row}
            assert len(width) == 1 and len(body) > 4
    table = pd.read_csv(layout.table("results").with_suffix(".csv"))
    assert table["psnr"].tolist() == pytest.approx(
        results.summary.loc[results.summary["selected_by"] == "validation", "psnr"].tolist()
    )


def test_grids_show_targets_measurements_and_the_chosen_reconstructions(results, built):
    experiment, root = built
    grid = make_grid(results, "colorization", count=4)
    assert grid.columns == ("target", "measurement", "map", "chavez", "linear_mmse")
    assert len(grid.rows) == 4
    targets = np.load(Layout(experiment, root).prepared("test"))
    for name, tiles in zip(grid.images, grid.rows, strict=True):
        index = int(name[5:8])
        assert index < 9  # what the method with the fewest images solved
        assert np.array_equal(tiles[0].pixels, targets[index])
        assert np.ptp(tiles[1].pixels, axis=2).max() == 0  # grey
        for line, tile in zip(results.lines_on("colorization"), tiles[2:], strict=True):
            setting = results.selected("colorization", line)["setting"]
            row = results.rows_of("colorization", line, setting).set_index("image").loc[name]
            error = ((tile.pixels / 255.0 - targets[index] / 255.0) ** 2).mean()
            assert -10 * np.log10(error) == pytest.approx(row["psnr"], abs=0.1)
            assert tile.psnr == number(row["psnr"], 1)


def test_the_pages_tiles_are_the_pictures_pixel_by_pixel(html, results):
    grid = make_grid(results, "denoising")
    tile = re.search(r'data-text="target"[^<]*<img src="data:image/png;base64,([^"]+)"', html)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(tile.group(1)))))
    assert pixels.shape == (SIDE, SIDE, 3)
    assert np.array_equal(pixels, grid.rows[0][0].pixels)


def test_a_measurement_that_is_no_picture_is_shown_by_its_least_norm_image(tmp_path):
    tasks = {"sensing": {"operator": "gaussian_sensing", "settings": {"measurements": 200}}}
    experiment = tiny_experiment(tasks=tasks, methods={"linear_mmse": {}}, reference=None)
    fabricate(tmp_path, experiment)
    grid = make_grid(load(experiment, tmp_path), "sensing")
    assert grid.columns[:2] == ("target", "A†y")
    with np.load(Layout(experiment, tmp_path).measurement("sensing"), allow_pickle=False) as archive:
        y = archive["y"]
    assert y.shape == (12, 200)
    sensing = operators.build("gaussian_sensing", (3, SIDE, SIDE), measurements=200)
    wanted = to_pixels(sensing.A_dagger(torch.from_numpy(y[:1])).clamp(0, 1))[0]
    assert np.abs(grid.rows[0][1].pixels.astype(int) - wanted).max() <= 1
    build(experiment, tmp_path)
    page = Layout(experiment, tmp_path).page.read_text()
    assert "least-norm image" in page and "least-norm image" not in page.partition('id="grids"')[0]


def test_methods_that_say_how_sure_they_are_are_shown(tmp_path):
    methods = {"linear_posterior": {"sweep": {"noise_std": [0.05, 0.1]}}, "linear_mmse": {}}
    experiment = tiny_experiment(methods=methods, reference=None)
    fabricate(tmp_path, experiment)
    results = load(experiment, tmp_path)
    groups = certainties(results)
    assert [group.title for group in groups] == ["denoising by linear_posterior", "colorization by linear_posterior"]
    first = groups[0].rows[0]
    assert np.allclose(first.std, 0.05, atol=1e-4)
    assert first.covered == "covers .875"
    assert np.array_equal(first.samples, np.stack([first.found, 255 - first.found]))
    error = np.sqrt(((first.found / 255 - first.target / 255) ** 2).mean(-1))
    assert np.allclose(first.error, error)
    assert groups[0].most >= np.quantile(error, 0.9)
    build(experiment, tmp_path)
    page = Layout(experiment, tmp_path).page.read_text()
    assert 'id="uncertainty"' in page and 'href="#uncertainty"' in page
    cells = Page(page).cells["uncertainty"]
    assert [row[:3] for row in cells if row[0].startswith("linear")] == [["linear_posterior", ".875", "0.0250"]] * 2
    table = pd.read_csv(Layout(experiment, tmp_path).table("results").with_suffix(".csv"))
    assert table["coverage"].isna().tolist() == [method == "linear_mmse" for method in table["method"]]


def test_without_such_methods_there_is_no_such_section(html, results):
    assert certainties(results) == []
    assert "uncertainty" not in html
    assert (results.layout.figure("uncertainty").with_suffix(".png")).exists()


def test_five_bit_targets_are_shown_with_five_bits(tmp_path):
    experiment = tiny_experiment(bits=5, methods={"bm3d": {}}, reference=None)
    fabricate(tmp_path, experiment)
    grid = make_grid(load(experiment, tmp_path), "denoising")
    assert len(np.unique(np.stack([tiles[0].pixels for tiles in grid.rows]))) <= 32


def test_the_curve_over_cost_keeps_images_that_stopped_early():
    points = {"a": [10.0, 20.0, 30.0], "b": [12.0, 18.0]}
    traces = pd.concat(
        pd.DataFrame({"image": image, "passes": range(1, len(psnr) + 1), "seconds": 0.5, "psnr": psnr})
        for image, psnr in points.items()
    )
    curve = cost_curve(traces)
    assert curve["psnr"].tolist() == [11, 19, 24]
    assert curve["passes"].tolist() == [1, 2, 2.5]


def test_a_method_has_one_colour_whatever_else_runs():
    every = {line.label: line.colour for line in lines_of(tiny_experiment())}
    fewer = {line.label: line.colour for line in lines_of(tiny_experiment(methods={"bm3d": {}, "chavez": {}}))}
    assert len(set(every.values())) == len(every)
    assert fewer.items() <= every.items()


def test_a_method_with_several_priors_is_one_line_each():
    priors = {name: {"flow": "haar_glow"} for name in ("p", "q")}
    lines = lines_of(tiny_experiment(priors=priors, methods={"map": {}, "chavez_slow": {"solver": "chavez"}}))
    assert [line.label for line in lines] == ["map (p)", "map (q)", "chavez_slow (p)", "chavez_slow (q)"]
    assert len({line.colour for line in lines}) == 4
    assert {line.solver for line in lines} == {"map", "chavez"}


def test_failures_are_shown_not_hidden(tmp_path):
    experiment = tiny_experiment(methods={"map": {"sweep": {}}, "bm3d": {}}, tasks=ONE_TASK, reference=None)
    fabricate(tmp_path, experiment)
    layout = Layout(experiment, tmp_path)
    rows = pd.read_parquet(layout.evaluated("rows"))
    first = rows.index[(rows["method"] == "map") & (rows["split"] == "test") & (rows["task"] == "denoising")][0]
    rows.loc[first, ["status", "psnr", "ssim"]] = ["diverged", np.nan, np.nan]
    write_evaluation(layout, rows, pd.read_parquet(layout.evaluated("traces")))
    build(experiment, tmp_path)
    html = layout.page.read_text()
    assert "1 diverged" in html
    assert "1 reconstruction diverged" in html
    row = next(cells for cells in Page(html).cells["results"] if cells[0] == "map")
    assert row[1] == "—"
    test_no_text_of_the_page_is_not_a_number(html)


def test_without_benchmarks_samples_manifest_or_history_the_page_still_stands(tmp_path):
    experiment = tiny_experiment(methods={"map": {}}, tasks=ONE_TASK, reference=None)
    fabricate(tmp_path, experiment)
    layout = Layout(experiment, tmp_path)
    for step in layout.steps():
        layout.benchmark(step).unlink(missing_ok=True)
    for path in (
        layout.flow("flow_a", "samples"),
        layout.flow("flow_a", "history"),
        layout.prepared("manifest"),
    ):
        path.unlink()
    layout.flow("flow_a", "job").unlink()
    build(experiment, tmp_path)
    assert all((tmp_path / name).exists() for name in report_files(experiment))
    html = layout.page.read_text()
    assert re.search(r"1 job\s+left no <code>job.json</code>", html)
    assert "No flow method could be compared with a baseline." in html
    assert 'id="published"' not in html


def test_without_an_evaluation_it_says_what_to_do(tmp_path):
    with pytest.raises(FlowpriorError, match=r"no results/tiny/rows.parquet; evaluate the experiment first"):
        build(tiny_experiment(), tmp_path)


def test_what_ran_where_names_versions_seed_times_and_settings(html):
    cells = dict(row[:2] for row in Page(html).cells["provenance"] if len(row) == 2)
    import torch

    assert cells["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert cells["seed"] == "3"
    assert cells["commit"] == "not in a repository"
    assert cells["called as"] == "not recorded"
    assert cells["sizes.test"] == "12"
    steps = {row[0]: row[1:] for row in Page(html).cells["provenance"] if len(row) == 5}
    assert steps["train"][:2] == ["1", "12.5 s"]
    assert int(steps["reconstruct"][0]) > 10
    assert "validation_images: 5" in html


def test_what_ran_where_names_hashes_machines_jobs_and_commands(html, built):
    experiment, root = built
    rows = Page(html).cells["provenance"]
    layout = Layout(experiment, root)
    for split in ("validation", "test"):
        path = layout.prepared(split)
        whole = of_file(path)
        assert ["prepared images", path.relative_to(root).as_posix(), whole.partition(":")[2][:12], ""] in rows
        assert f'title="{whole}"' in html
    (missing,) = [row for row in rows if row[0] == "checkpoint flow_a"]
    assert missing[2:] == ["missing", "4.29 bits per dimension, 241 234 parameters"]
    (place,) = [row for row in rows if row[0] == "node7"]
    assert place[1] == "cpu (Some processor)" and int(place[2]) > 10
    (train,) = [row for row in rows if row[:2] == ["train", "flow_a"]]
    assert train[2:] == ["12.5 s", "812", "node7", "cpu (Some processor)", "4242", "c0ffeec0ffee"]
    assert len([row for row in rows if row[0] == "reconstruct" and len(row) == 8]) == len(jobs(experiment))
    assert "of several states of the source tree" in html
    for line in json.loads(layout.provenance.read_text())["reproduce"]:
        assert line in unescape(html)


def test_a_setting_chosen_at_the_end_of_its_sweep_is_said(html, results):
    expected = []
    for task in results.experiment.tasks:
        for line in results.lines_on(task):
            for key in ("alpha", "noise_std"):
                tried = [
                    point.settings[key]
                    for point in results.experiment.points(line.method, task)
                    if key in point.settings
                ]
                value = next(
                    (
                        point.settings.get(key)
                        for point in results.experiment.points(line.method, task)
                        if point.label == results.selected(task, line)["setting"]
                    ),
                    None,
                )
                if len(set(tried)) > 1 and value in (min(tried), max(tried)):
                    expected.append(f"{task} by {line.label}, {key}={value:g}")
    said = re.search(r"values beyond it may be better: (.*?)\.</p>", html, re.S)[1]
    assert expected and sorted(said.split("; ")) == sorted(expected)


def card_of(html, task):
    """The card of one task."""
    return re.search(
        rf'<div class="task">{task} ·(.*?)<div class="(?:task|results)"', html + '<div class="task"', re.S
    ).group(1)


def test_the_key_sentence_follows_from_the_paired_differences(html, results):
    for task in results.experiment.tasks:
        line, baseline = results.best_flow(task), results.best_baseline(task)
        entry = results.difference(task, line, baseline)
        word = "better" if entry["low"] > 0 else "worse" if entry["high"] < 0 else "level"
        phrase = {"better": "above", "level": "level with", "worse": "below"}[word]
        sentence = re.search(
            r"Chosen on validation images, the method with a learned flow is ([^<]+)</strong>", html
        ).group(1)
        assert re.search(rf"{phrase} (it|the baseline without one) in [a-z ]*{task}", sentence)
        flows = [results.selected(task, other) for other in results.lines_on(task) if other.is_flow]
        chosen = results.selected(task, line)
        ahead = max((found["psnr"] for found in flows if found and found["n"] == chosen["n"]), default=0)
        assert ("on these test images better: " in card_of(html, task)) == (ahead > chosen["psnr"])
        assert f'<span class="{word}">{signed(entry["psnr_difference"])} dB</span>' in html


def test_the_same_results_give_the_same_bytes(built, tmp_path):
    """Every file, the page and its provenance too: nothing in them is of the moment they are written."""
    experiment, root = built
    shutil.copytree(root, tmp_path / "copy")
    written = [tmp_path / "copy" / name for name in report_files(experiment)]
    for path in written:
        path.unlink()
    build(experiment, tmp_path / "copy", skipped={"csgm": "it needs a <missing> module"})
    for path in written:
        assert path.read_bytes() == (root / path.relative_to(tmp_path / "copy")).read_bytes(), path.name


def test_an_experiment_says_which_methods_are_compared_with():
    """A network that was unfolded has no flow: its method stands with the baselines, in lines, rows and choices."""
    methods = {"map": {}, "chavez": {"baseline": True}, "linear_mmse": {"baseline": False}}
    experiment = tiny_experiment(methods=methods, reference=None)
    assert {line.method: line.baseline for line in lines_of(experiment)} == {
        "map": False,
        "chavez": True,
        "linear_mmse": False,
    }
    assert [method for method in methods if is_baseline(experiment, method)] == ["chavez"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_panel_for_each_task_and_none_that_is_empty(tmp_path, count):
    """Two stand beside each other: of an odd number the last place stays free."""
    experiment = tiny_experiment(
        tasks={f"task{number}": {"operator": "identity"} for number in range(count)},
        methods={"linear_mmse": {}},
        reference=None,
    )
    fabricate(tmp_path, experiment)
    figure = cost_figure(load(experiment, tmp_path), "seconds")
    assert [axis.get_title() for axis in figure.axes] == list(experiment.tasks)
