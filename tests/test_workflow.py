"""The workflow as a user meets it: run whole on the tiny experiment, and asked for what it would do."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from image_archives import encoded
from safetensors.torch import load_file, save_file
from workflow_project import (
    NOTHING,
    ROOT,
    SMOKE,
    copy_of_a_run,
    copy_of_the_project,
    experiment_file,
    planned,
    snakemake,
)

from flowprior.experiment.loading import load_experiment
from flowprior.experiment.plan import jobs
from flowprior.report import report_files

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path):
    return copy_of_the_project(tmp_path)


@pytest.fixture(scope="module")
def finished(tiny_run, tmp_path_factory):
    """A project in which the tiny experiment has run; tests leave its results as they are."""
    return copy_of_a_run(tiny_run, tmp_path_factory.mktemp("finished"))


class TestAFinishedRun:
    def test_leaves_what_it_promises(self, finished):
        experiment = load_experiment(finished / "params" / "smoke.yaml")
        for path in [*report_files(experiment), "results/smoke/metrics.json", "mlflow.db"]:
            assert (finished / path).stat().st_size > 0, path
        rows = pd.read_parquet(finished / "results/smoke/rows.parquet")
        expected = sum(
            len(experiment.chunks(job.method, job.task)[job.chunk]) * experiment.images_of(job.method, job.split)
            for job in jobs(experiment)
        )
        assert len(rows) == expected
        assert set(rows["status"]) == {"ok"}
        summary = pd.read_csv(finished / "results/smoke/summary.csv")
        assert set(summary["method"]) == set(experiment.methods)

    def test_ends_by_naming_the_report(self, finished):
        said = (finished / "said.txt").read_text()
        assert "Report: results/smoke/report.html" in said
        assert re.search(r"train tiny +20/20", said)  # a person sees how far long jobs are

    def test_has_a_log_and_a_benchmark_for_every_job(self, finished):
        benchmarks = list((finished / "results/smoke/benchmarks").rglob("*.tsv"))
        logs = [path for path in (finished / "logs/smoke").rglob("*.log")]
        assert len(benchmarks) == len(logs) == sum(planned((finished / "said.txt").read_text()).values()) - 1

    def test_is_not_run_again(self, finished):
        assert NOTHING in snakemake(finished, *SMOKE)

    def test_touched_files_and_changed_programs_trigger_nothing(self, finished):
        for path in [*(finished / "prepared").rglob("*.npy"), *(finished / "data").rglob("*.*")]:
            path.touch()
        script = finished / "workflow" / "scripts" / "train.py"
        script.write_text(script.read_text() + "\n# changed\n")
        assert NOTHING in snakemake(finished, *SMOKE)

    def test_one_changed_alpha_reruns_only_what_depends_on_it(self, finished):
        methods = yaml.safe_load((finished / "params/smoke.yaml").read_text())["methods"]
        methods["chavez"]["sweep"]["alpha"][2] = 0.2  # alone in the second chunk
        output = snakemake(finished, "-n", "--configfile", experiment_file(finished, "alpha", methods=methods))
        assert planned(output) == {
            **{"all": 1, "reconstruct": 3, "evaluate": 1},
            **{"study": 1, "report": 1, "publish": 1},
        }
        solved = re.findall(r"Solve (\w+) by (\w+) .*, (\w+) images, settings (\d+)", output)
        assert set(solved) == {("denoising", "chavez", split, "1") for split in ("validation", "test", "reduced")}

    def test_a_changed_title_solves_nothing_again(self, finished):
        output = snakemake(finished, "-n", "--configfile", experiment_file(finished, "title", title="Another"))
        assert set(planned(output)) == {"all", "evaluate", "study", "report", "publish"}

    def test_is_published_once(self, finished):
        before = json.loads((finished / "results/smoke/published.json").read_text())
        assert before["status"] == "published"
        rows = pd.read_parquet(finished / "results/smoke/rows.parquet")
        settings = rows.groupby(["task", "method", "prior", "setting"]).ngroups
        assert len(before["runs"]) == settings + 2  # and one training, and the whole
        output = snakemake(finished, *SMOKE, "--forcerun", "publish", "--", "publish")
        assert f"0 new of {settings + 2} runs" in output
        assert json.loads((finished / "results/smoke/published.json").read_text())["runs"] == before["runs"]

    def test_a_server_out_of_reach_is_said_and_stops_nothing(self, finished):
        output = snakemake(
            finished,
            *SMOKE,
            "--forcerun",
            "publish",
            "--",
            "publish",
            MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        )
        line = next(line for line in output.splitlines() if line.startswith("flowprior:"))
        assert "http://127.0.0.1:9" in line
        assert "make publish" in line
        assert json.loads((finished / "results/smoke/published.json").read_text())["status"] == "pending"

    def test_gives_snakemakes_own_report(self, finished):
        snakemake(finished, *SMOKE, "--report", "workflow_report.html")
        assert "samples" in (finished / "workflow_report.html").read_text()


class TestWhatAFinishedRunSaysOfItself:
    """`provenance.json`, `settings.yaml`, and `flowprior verify`, which holds the results against them."""

    RESULTS = Path("results/smoke")

    def verify(self, project: Path, *arguments: str, status: int = 0) -> str:
        """Run `flowprior verify` from another folder; what it printed on stdout."""
        command = [sys.executable, "-m", "flowprior.cli", "verify", str(project / self.RESULTS), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == status, done.stdout + done.stderr
        assert "hash files" in done.stderr and "compute rows again" in done.stderr
        return done.stdout

    def test_agrees_with_its_results(self, finished):
        output = self.verify(finished, "--rows", "8", "--solve", "8")
        provenance = json.loads((finished / self.RESULTS / "provenance.json").read_text())
        assert re.fullmatch(r"everything agrees: \d+ files, 8 rows, 8 solved again\n", output)
        assert provenance["undescribed"] == 0
        assert {job["rule"] for job in provenance["jobs"] if job["host"]} == {"train", "reconstruct"}
        assert all(job["seconds"] is not None for job in provenance["jobs"])
        assert set(provenance["data"]["raw"]) == {f"data/photos/{path.name}" for path in self.photographs(finished)}
        assert provenance["data"]["pinned"] == yaml.safe_load((ROOT / "data.dvc").read_text())["outs"][0]["md5"]

    def photographs(self, project: Path) -> list[Path]:
        return [path for path in (project / "data/photos").iterdir() if path.suffix in (".png", ".jpg")]

    def test_every_change_is_named(self, finished):
        files = {
            "flows/tiny/weights.safetensors": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
            "tables/results.csv": lambda content: content.replace(b".", b",", 1),
            "measurements/denoising/test.npz": lambda content: (
                content[:-30] + bytes([content[-30] ^ 1]) + content[-29:]
            ),
            "paired.csv": None,
        }
        rows = finished / self.RESULTS / "rows.parquet"
        kept = {path: path.read_bytes() for path in [rows, *(finished / self.RESULTS / name for name in files)]}
        try:
            for name, change in files.items():
                path = finished / self.RESULTS / name
                path.write_bytes(change(kept[path])) if change else path.unlink()
            table = pd.read_parquet(rows)
            last = table.index[table["method"] == "linear_mmse"][-1]
            table.loc[last, "psnr"] += 3
            table.to_parquet(rows, index=False)
            lines = self.verify(finished, "--rows", "1000", "--solve", "0", status=1).splitlines()
        finally:
            for path, content in kept.items():
                path.write_bytes(content)
        for name, change in files.items():
            assert any(
                line.startswith(f"{self.RESULTS / name} {'differs' if change else 'is missing'}") for line in lines
            )
        assert any(line.startswith(f"{rows.relative_to(finished)} differs") for line in lines)
        assert any(table.loc[last, "image"] in line and "psnr" in line and "picture" in line for line in lines)
        assert re.match(r"\d+ differences: ", lines[-1])

    def test_solving_again_finds_another_prior(self, finished):
        """Weights that another training might have given: their hash differs, and so do the rows of their methods."""
        path = finished / self.RESULTS / "flows/tiny/weights.safetensors"
        before = path.read_bytes()
        try:
            save_file({name: value * 1.5 for name, value in load_file(path).items()}, path)
            output = self.verify(finished, "--rows", "6", "--solve", "6", status=1)
        finally:
            path.write_bytes(before)
        assert "weights.safetensors differs" in output
        assert "when solved again" in output

    def test_its_settings_are_the_experiment_even_when_overridden(self, finished, tmp_path):
        settings = str(self.RESULTS / "settings.yaml")
        assert NOTHING in snakemake(finished, "-n", "--configfile", settings)
        project = tmp_path / "overridden"
        shutil.copytree(finished, project)
        snakemake(project, *SMOKE, "--config", "title=Another one", "--", "report_all")
        written = (project / settings).read_bytes()
        assert NOTHING in snakemake(project, "-n", "--configfile", settings, "--", "report_all")
        assert "evaluate" in planned(snakemake(project, "-n", *SMOKE, "--", "report_all"))
        # The file that is read is an output too: it must not vanish before the jobs have read it.
        output = snakemake(project, "--configfile", settings, "--forcerun", "report", "--", "report_all")
        assert "evaluate" not in planned(output)
        assert (project / settings).read_bytes() == written
        assert "Another one" in (project / self.RESULTS / "report.html").read_text()


class TestDryRuns:
    def test_the_default_is_the_demo(self, project):
        output = snakemake(project, "-n")
        assert planned(output)["reconstruct"] == len(jobs(load_experiment(ROOT / "params/demo.yaml")))
        assert "results/demo/report.html" in output

    def test_another_file_replaces_the_demo(self, project):
        output = snakemake(project, "-n", *SMOKE)
        assert planned(output)["reconstruct"] == len(jobs(load_experiment(ROOT / "params/smoke.yaml")))
        assert "demo" not in output

    def test_one_setting_on_the_command_line_leaves_the_others(self, project):
        output = snakemake(project, "-n", *SMOKE, "--config", "data={resolution: 8}", "test_images=3")
        assert planned(output)["train"] == 1

    @pytest.mark.parametrize(
        "target", ["prepare_all", "train_all", "measure_all", "reconstruct_all", "evaluate_all", "report_all"]
    )
    def test_every_step_has_a_target(self, project, target):
        output = snakemake(project, "-n", *SMOKE, "--", target)
        steps = ["prepare", "train", "measure", "reconstruct", "evaluate", "report"]
        reached = steps.index(target.removesuffix("_all"))
        assert steps[reached] in planned(output)
        assert not set(steps[reached + 1 :]) & set(planned(output))

    def test_a_cluster_gives_gpus_to_flows_and_more_to_second_attempts(self, project):
        asks = r"{} .*\[(\d+) threads, (\d+) MB, (\d+) min, (\d+) GPU\]"
        slurm = ("-n", *SMOKE, "--workflow-profile", "profiles/slurm")
        first, second = snakemake(project, *slurm), snakemake(project, *slurm, "--attempt", "2")
        for job, gpus in (("Train", 1), ("by map", 1), ("by bm3d", 0), ("by linear_mmse", 0)):
            once, twice = (
                [int(number) for number in re.search(asks.format(job), output).groups()] for output in (first, second)
            )
            assert once[3] == twice[3] == gpus, job
            assert twice[1:3] == [2 * once[1], 2 * once[2]], job
        local = snakemake(project, "-n", *SMOKE)
        assert {line[-1] for line in re.findall(asks.format("Job"), local)} == {"0"}

    def test_methods_without_their_module_leave_the_workflow(self, project):
        (project / "hidden").mkdir()
        (project / "hidden" / "sitecustomize.py").write_text("import sys; sys.modules['bm3d'] = None\n")
        output = snakemake(project, "-n", *SMOKE, PYTHONPATH=str(project / "hidden"))
        assert output.count("method 'bm3d' is left out") == 1
        assert "by bm3d" not in output
        assert "by map" in output


class TestImagesOfAFolder:
    """Sub-folders change without the folder's own time knowing."""

    def test_are_prepared_again_when_one_is_replaced_added_or_removed(self, project):
        for split in ("train", "val", "test"):
            (project / "pictures/deep" / split).mkdir(parents=True)
            for number in range(32):
                (project / f"pictures/deep/{split}/{number}.png").write_bytes(encoded(number, (20, 20), "PNG"))
        data = {"source": "folder", "path": "pictures", "resolution": 16}
        call = ("--configfile", experiment_file(project, "mine", data=data), "--", "prepare_all")
        output = snakemake(project, *call)
        assert "splits: by folders: train is train, val is validation, test is test" in output
        os.utime(project / "pictures")
        assert NOTHING in snakemake(project, "-n", *call)
        one, other = (project / f"pictures/deep/test/{name}.png" for name in (1, "other"))
        one.write_bytes(encoded(99, (20, 20), "PNG"))
        before = np.load(next(project.glob("prepared/folder-*/test.npy")))
        snakemake(project, *call)
        after = np.load(next(project.glob("prepared/folder-*/test.npy")))
        assert [bool((a == b).all()) for a, b in zip(before, after, strict=True)].count(False) == 1
        assert NOTHING in snakemake(project, "-n", *call)
        one.rename(other)
        assert planned(snakemake(project, "-n", *call))["prepare"] == 1
        other.rename(one)
        other.write_bytes(encoded(98, (20, 20), "PNG"))
        assert planned(snakemake(project, "-n", *call))["prepare"] == 1


def truncated_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", os.urandom(5000))
    path.write_bytes(path.read_bytes()[:2000])


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"methods": {"maap": {}}}, "unknown solver 'maap'; did you mean 'map'?"),
            ({"methods": {"map": {"settings": {"noise_sdt": 0.1}}}}, "did you mean 'noise_std'?"),
            ({"data": {"source": "phots"}}, "did you mean 'photos'?"),
            ({"data": {"source": "celeba", "path": "nowhere"}}, "nowhere/img_align_celeba.zip"),
            ({"data": {"source": "folder", "path": "broken.zip"}}, "broken.zip"),
            ({"bits": 7}, "got 7"),
        ],
    )
    def test_is_one_line_before_anything_starts(self, project, changes, said):
        truncated_zip(project / "broken.zip")
        before = {path for path in project.rglob("*") if ".snakemake" not in path.parts}
        path = experiment_file(project, "bad", **changes)
        output = snakemake(project, "--configfile", path, status=2)
        lines = [line for line in output.splitlines() if "profile" not in line]
        assert len(lines) == 1, output
        assert said in lines[0]
        after = {path for path in project.rglob("*") if ".snakemake" not in path.parts}
        assert after - before == {project / path}

    def test_found_by_a_job_is_repeated_last_and_leaves_nothing_half_written(self, project):
        path = experiment_file(project, "bad", data={"source": "photos", "resolution": 18, "train": 32})
        output = snakemake(project, "--configfile", path, "--", "train_all", status=2)
        line = output.splitlines()[-1]
        assert line.startswith("flowprior: ")
        assert "18x18" in line
        assert "Traceback" not in output
        assert not [path for path in (project / "results/smoke/flows/tiny").rglob("*") if path.is_file()]

    def test_mended_is_forgotten(self, finished):
        assert not list((finished / "logs").rglob("*.error"))
