"""What an experiment's files say about its runs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image
from published_tree import make_tree
from report_fixture import CALL

from flowprior.experiment.plan import jobs
from flowprior.images import raw_files
from flowprior.provenance.invocation import Invocation
from flowprior.records import records_of
from flowprior.records.record import CURVE_POINTS, Record, flat, thinned
from flowprior.records.solving import mean_curves, quality
from flowprior.report import Layout

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    return root, make_tree(root)


@pytest.fixture(scope="module")
def records(tree):
    root, experiment = tree
    return {record.key: record for record in records_of(experiment, root)}


CHAVEZ = "tiny/denoising/chavez/flow_a/alpha=0.02"


def test_there_is_one_per_training_and_setting_and_one_of_the_whole(tree, records):
    root, experiment = tree
    settings = sum(
        len(experiment.points(method, task)) * len(experiment.priors_of(method))
        for method in experiment.methods
        for task in experiment.tasks_of(method)
    )
    kinds = [record.kind for record in records.values()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "training": len(experiment.priors),
        "reconstruction": settings,
        "aggregate": 1,
    }
    assert {record.group for record in records.values()} == {"tiny/photos-16px"}
    assert len(list(records_of(experiment, root))) == len(records)  # keys are all different


def test_they_say_what_the_rows_and_the_tables_say(tree, records):
    root, experiment = tree
    rows = pd.read_parquet(root / "results/tiny/rows.parquet")
    record = records[CHAVEZ]
    mine = rows[(rows.task == "denoising") & (rows.method == "chavez") & (rows.setting == "alpha=0.02")]
    test, validation = mine[mine.split == "test"], mine[mine.split == "validation"]
    assert record.metrics["psnr"] == pytest.approx(test.psnr.mean())
    assert record.metrics["ssim"] == pytest.approx(test.ssim.mean())
    assert record.metrics["validation_psnr"] == pytest.approx(validation.psnr.mean())
    assert record.metrics["n"] == len(test) == experiment.test_images
    assert record.curves["trace/psnr"][-1] == (150, pytest.approx(test.psnr.mean()))
    assert record.seconds == pytest.approx(test.seconds.sum())
    summary = pd.read_csv(root / "results/tiny/summary.csv", keep_default_na=False)
    for line in summary.to_dict("records"):
        found = records["/".join(["tiny", *(line[name] for name in ("task", "method", "prior", "setting"))])]
        for name in ("psnr", "psnr_low", "psnr_high", "ssim", "ssim_low", "ssim_high"):
            assert found.metrics[name] == pytest.approx(line[name])
        assert line["selected_by"] in found.marks["selected_by"].split(",")
        assert records["tiny/aggregate"].metrics.get(f"{line['task']}/{line['method']}/psnr")
    chosen = [record for record in records.values() if "validation" in record.marks.get("selected_by", "")]
    assert len(chosen) == (summary.selected_by == "validation").sum()


def test_only_methods_that_say_how_sure_they_are_have_their_coverage(tree):
    root, _ = tree
    rows = pd.read_parquet(root / "results/tiny/rows.parquet")
    images = rows[(rows.task == "denoising") & (rows.method == "chavez") & (rows.setting == "alpha=0.02")]
    assert not {"coverage", "crps"} & set(quality(images, 0))
    assert not {"coverage", "crps"} & set(quality(images.drop(columns=["coverage", "crps"]), 0))
    told = quality(images.assign(coverage=0.8, crps=0.02), 0)
    assert (told["coverage"], told["crps"]) == (pytest.approx(0.8), pytest.approx(0.02))


def test_settings_are_flat_and_typed(records):
    settings = records[CHAVEZ].settings
    assert settings["alpha"] == "0.02" and settings["measurement.operator"] == "identity"
    assert (settings["task"], settings["method"], settings["bits"]) == ("denoising", "chavez", "8")
    assert flat({"a": {"b": {"c": 1e-05}}, "d": [1], "e": None, "f": False, "g": "word"}) == {
        **{"a.b.c": "1e-05", "d": "[1]", "f": "false", "g": "word"}
    }


def test_they_name_where_a_job_ran_and_of_what(tree, records):
    root, _ = tree
    tags = records[CHAVEZ].tags
    assert tags["rule"] == "reconstruct" and tags["host"] == "node7" and tags["torch"] == "2.13.0"
    assert tags["wildcards.method"] == "chavez" and tags["git.dirty"] == "no"
    assert len(tags["mlflow.source.git.commit"]) == 40 and "slurm_job" not in tags
    training = records["tiny/training/flow_a"]
    assert training.tags["slurm_job"] == "4242"
    assert len(training.tags["checkpoint"]) == 16
    assert training.call == records[CHAVEZ].call == Invocation(**CALL)
    assert "checkpoint" not in records["tiny/denoising/bm3d/none/default"].tags
    costs = records[CHAVEZ].metrics
    assert costs["peak_memory_mb"] == 812.4 and costs["system/mean_cpu_percent"] == 97.5
    manifest = json.loads(next(root.glob("prepared/*/manifest.json")).read_text())
    (images,) = records[CHAVEZ].inputs
    assert images.digest == manifest["splits"]["test"]["sha256"][:16] and images.context == "test"
    assert [images.context for images in training.inputs] == ["training", "validation"]


def test_the_pin_of_the_raw_images_is_a_mark(tmp_path):
    experiment = make_tree(tmp_path)
    raw = [tmp_path / path for path in raw_files(experiment.data)]
    raw[0].parent.mkdir(parents=True)
    for path in raw:
        path.write_bytes(b"123")
    pin = {"outs": [{"md5": "0a1b.dir", "size": 3 * len(raw), "nfiles": len(raw), "path": "data"}]}
    (tmp_path / "data.dvc").write_text(yaml.safe_dump(pin))
    pinned = {record.key: record for record in records_of(experiment, tmp_path)}
    assert {record.marks["data.dvc"] for record in pinned.values()} == {"0a1b.dir"}
    raw[0].write_bytes(b"other images than were pinned")
    for record in records_of(experiment, tmp_path):
        assert "data.dvc" not in record.marks
        assert record.digest == pinned[record.key].digest  # no number changed, so no run is made again


def test_they_write_their_artifacts(records, tmp_path):
    for record in records.values():
        for name, write in record.artifacts.items():
            write(tmp_path / name)
            assert (tmp_path / name).stat().st_size > 0, name
    with Image.open(tmp_path / "reconstructions.png") as picture:
        assert picture.width % 8 == 0  # as many columns as images, three rows
        assert picture.height == 3 * 128
    records[CHAVEZ].artifacts["settings.yaml"](tmp_path / "settings.yaml")
    assert yaml.safe_load((tmp_path / "settings.yaml").read_text())["alpha"] == 0.02
    assert len(records[CHAVEZ].tables["images.json"]()) == 12
    history = pd.read_csv(tmp_path / "history.csv")
    assert {"image", "passes", "loss", "psnr"} <= set(history)
    assert (tmp_path / "log.txt").read_text().endswith("is done\n")


def test_of_a_killed_pipeline_there_are_those_of_the_jobs_that_ended(tree, tmp_path):
    root, experiment = tree
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    layout = Layout(experiment, tmp_path)
    for file in ("rows.parquet", "traces.parquet", "summary.csv", "metrics.json"):
        (layout.results / file).unlink()
    gone = next(job for job in jobs(experiment) if job.method == "chavez" and job.split == "test")
    layout.solved(gone, "rows").unlink()
    found = {record.key: record for record in records_of(experiment, tmp_path)}
    lost = {f"tiny/{gone.task}/chavez/flow_a/{point.label}" for point in experiment.chunks("chavez", gone.task)[0]}
    complete = {record.key for record in records_of(experiment, root)}
    assert set(found) == complete - lost - {"tiny/aggregate"}
    half = next(job for job in jobs(experiment) if job.method == "linear_mmse" and job.split == "test")
    layout.solved(half, "traces").unlink()  # killed between two files
    without = {record.key for record in records_of(experiment, tmp_path)}
    assert set(found) - without == {f"tiny/{half.task}/linear_mmse/gaussian/noise_std={value}" for value in (0.05, 0.1)}
    kept = found["tiny/denoising/bm3d/none/default"]
    assert kept.marks["selected_by"] == "-" and kept.metrics["psnr"] > 0
    layout.flow("flow_a", "weights").unlink()
    assert "tiny/training/flow_a" not in {record.key for record in records_of(experiment, tmp_path)}


def test_rows_of_other_settings_than_the_experiment_has_now_are_no_record(tree):
    root, experiment = tree
    said = []
    other = experiment.model_copy(update={"seed": experiment.seed + 1})
    assert not list(records_of(other, root, said.append))
    assert len(said) == len(jobs(experiment)) + len(experiment.priors) + 1 and "seed" in said[0]


def test_a_flow_a_task_and_a_page_of_other_settings_are_no_record(tree):
    root, experiment = tree
    training = experiment.priors["flow_a"].training.model_copy(update={"steps": 7})
    priors = {"flow_a": experiment.priors["flow_a"].model_copy(update={"training": training})}
    tasks = {**experiment.tasks, "denoising": experiment.tasks["denoising"].model_copy(update={"noise_std": 0.7})}
    whole = {record.key for record in records_of(experiment, root)}
    for changes, gone, said in (
        ({"priors": priors}, {"tiny/training/flow_a", "tiny/aggregate"}, "trained with other settings (prior)"),
        ({"tasks": tasks}, {key for key in whole if "/denoising/" in key} | {"tiny/aggregate"}, "another 'denoising'"),
        ({"title": "Another"}, {"tiny/aggregate"}, "report.html is of other settings"),
    ):
        lines = []
        found = {record.key for record in records_of(experiment.model_copy(update=changes), root, lines.append)}
        assert whole - found == gone and any(said in line for line in lines)


def test_the_weights_are_those_that_the_job_read(tmp_path):
    experiment = make_tree(tmp_path)
    layout = Layout(experiment, tmp_path)
    for job in jobs(experiment):
        path = layout.solved(job, "job")
        facts = json.loads(path.read_text())
        facts["inputs"] = {"results/tiny/flows/flow_a/weights.safetensors": "sha256:" + "12" * 32}
        path.write_text(json.dumps(facts))
    found = {record.key: record for record in records_of(experiment, tmp_path)}
    assert found[CHAVEZ].tags["checkpoint"] == "12" * 8 != found["tiny/training/flow_a"].tags["checkpoint"]


def test_the_digest_changes_with_what_was_measured_and_not_with_how_it_was_chosen():
    record = Record("g", "reconstruction", "n", "k", {"a": "1"}, {"psnr": 30.0}, marks={"selected_by": "-"})
    same = Record("g", "reconstruction", "n", "k", {"a": "1"}, {"psnr": 30.0}, marks={"selected_by": "oracle"})
    assert record.digest == same.digest
    for settings, metrics, tags in (({"a": "1"}, 30.1, {}), ({"a": "2"}, 30.0, {}), ({"a": "1"}, 30.0, {"host": "b"})):
        assert record.digest != Record("g", "reconstruction", "n", "k", settings, {"psnr": metrics}, tags=tags).digest


def test_curves_are_thinned_without_losing_their_ends():
    points = [(step, float(step)) for step in range(10_000)]
    thin = thinned(points)
    assert len(thin) == CURVE_POINTS
    assert (thin[0], thin[-1]) == (points[0], points[-1])
    assert thinned([(0, float("nan")), (1, 2.0)]) == ((1, 2.0),)
    assert mean_curves(pd.DataFrame({"passes": [0, 0]})) == {}  # of a method without steps


def test_an_image_that_stopped_early_stays_in_the_mean():
    points = {"image": list("aaabb"), "passes": [0, 10, 20, 0, 10], "psnr": [10.0, 20.0, 30.0, 10.0, 40.0]}
    traces = pd.DataFrame({**points, "loss": 1.0, "data_fit": float("nan"), "neg_log_prob": 2.0})
    curves = mean_curves(traces)
    assert curves["trace/psnr"] == ((0, 10.0), (10, 30.0), (15, 35.0))
    assert set(curves) == {"trace/psnr", "trace/loss", "trace/neg_log_prob"}


def test_nothing_else_imports_mlflow_and_records_cost_none():
    sources = [path for folder in ("src", "workflow") for path in (ROOT / folder).rglob("*") if path.is_file()]
    importing = {
        path.parent.name
        for path in sources
        if path.suffix in (".py", ".smk") and ("import mlflow" in (text := path.read_text()) or "from mlflow" in text)
    }
    assert importing == {"tracking"}
    program = "import sys, flowprior.records, flowprior.tracking; print({'mlflow', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
