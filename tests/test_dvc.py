"""DVC and Snakemake in one work tree, as a person uses both."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from workflow_project import (
    NOTHING,
    ROOT,
    SMOKE,
    copy_of_a_run,
    copy_of_the_project,
    make,
    planned,
    run,
    snakemake,
)

pytestmark = pytest.mark.slow

CLEAN = "Data and pipelines are up to date."
RUNS = "Running stage"
SWEEP = "methods.chavez.sweep.alpha"


def dvc(project: Path, *arguments: str, status: int = 0) -> str:
    return run(project, "dvc", *arguments, status=status)


def commit(project: Path) -> None:
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "A step")


def under_git(project: Path) -> Path:
    """The project as a repository whose DVC pipeline is the tiny experiment."""
    pipeline = project / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("experiment: demo", "experiment: smoke"))
    run(project, "git", "init", "--quiet")
    for name in ("name", "email"):
        run(project, "git", "config", f"user.{name}", "somebody")
    return project


def cloned(project: Path, folder: Path) -> Path:
    run(project, "git", "clone", "--quiet", str(project), str(folder))
    return folder


def contents(project: Path, *folders: str) -> dict[str, bytes]:
    files = (path for folder in folders for path in (project / folder).rglob("*") if path.is_file())
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in files}


def recorded_files(project: Path) -> dict[str, bytes]:
    """What DVC or Git has: all results but times, and what belongs to a machine."""
    found = contents(project, "results", "prepared", "data")
    local = re.compile("benchmarks|invocation|published|/training/")
    return {path: held for path, held in found.items() if not local.search(path)}


@pytest.fixture(scope="module")
def recorded(tiny_run, tmp_path_factory):
    """A plain run of Snakemake, taken over by DVC; tests change copies."""
    project = under_git(copy_of_a_run(tiny_run, tmp_path_factory.mktemp("recorded")))
    commit(project)
    (project / "before.txt").write_text(dvc(project, "status"))
    dvc(project, "commit", "--force")
    commit(project)
    return project


class TestAPlainRunTakenOver:
    def test_is_seen_and_recorded_without_running_again(self, recorded):
        assert "modified" in (recorded / "before.txt").read_text()
        assert CLEAN in dvc(recorded, "status")
        assert RUNS not in dvc(recorded, "repro")
        assert NOTHING in snakemake(recorded, "-n", *SMOKE)

    def test_has_the_pinned_images(self, recorded):
        assert (recorded / "data.dvc").read_text() == (ROOT / "data.dvc").read_text()

    def test_leaves_to_git_what_is_small_and_to_dvc_the_rest(self, recorded):
        tracked = run(recorded, "git", "ls-files", "results", "prepared", "data", "dvc.lock").split()
        plots = [f"results/smoke/plots/{name}.csv" for name in ("curves", "settings", "training")]
        assert tracked == ["dvc.lock", "results/smoke/metrics.json", *plots]
        assert not run(recorded, "git", "status", "--porcelain")

    def test_reports_nothing_to_anybody(self, recorded):
        assert "analytics = false" in (recorded / ".dvc" / "config").read_text()


class TestPlots:
    @pytest.fixture
    def drawn(self, recorded):
        """Plot -> what Vega is given."""
        shown = json.loads(dvc(recorded, "plots", "show", "--json"))
        assert not shown.get("errors")
        return {name: plot["content"] for name, (plot,) in shown["data"].items()}

    def test_are_drawn_of_the_tables(self, drawn):
        rows = {name: content["data"]["values"] for name, content in drawn.items()}
        assert set(rows) == {"training", "curves", "settings"}
        assert {row["images"] for row in rows["training"]} == {"training", "validation"}
        assert {row["line"] for row in rows["curves"]} >= {"map", "chavez", "linear_mmse"}
        settings = {row["setting"] for row in rows["settings"] if row["line"] == "chavez"}
        assert settings == {"alpha=0.02", "alpha=0.05", "alpha=0.1"}

    def test_name_columns_that_are_there(self, drawn):
        """Where a column does not exist, Vega draws an empty chart and says nothing."""
        for content in drawn.values():
            columns = {*content["data"]["values"][0], *(made["as"] for made in content.get("transform", ()))}
            chart = json.dumps({**content, "data": None})
            assert "<DVC_METRIC" not in chart
            assert set(re.findall(r'"field": "([^"]+)"', chart)) <= columns


@pytest.fixture(scope="module")
def changed(recorded, tmp_path_factory):
    """An experiment of DVC with another alpha, alone in its chunk, where a profile says one core."""
    project = copy_of_a_run(recorded, tmp_path_factory.mktemp("changed"))
    here = (project / "profiles/default/config.yaml").read_text()
    (project / "profiles/cluster").mkdir()
    (project / "profiles/cluster/config.yaml").write_text(here.replace("cores: all", "cores: 1"))
    commit(project)
    change = f"--name other --set-param params/smoke.yaml:{SWEEP}=[0.02,0.05,0.2]"
    said = make(project, "exp", f"ARGS={change}", SNAKEMAKE_PROFILE="profiles/cluster")
    (project.parent / f"{project.name}.txt").write_text(said)
    return project


class TestAChangedAlpha:
    @pytest.fixture
    def said(self, changed):
        return (changed.parent / f"{changed.name}.txt").read_text()

    def test_reruns_only_its_own_jobs(self, said):
        assert said.count(NOTHING) == 3  # prepare, train, measure
        solved = re.findall(r"Solve (\w+) by (\w+) .*, (\w+) images, settings (\d+)", said)
        assert sorted(solved) == [("denoising", "chavez", split, "1") for split in ("reduced", "test", "validation")]

    def test_is_listed_and_compared(self, changed):
        table = dvc(changed, "exp", "show", "--csv", "--no-pager")
        assert re.search("^other,", table, re.MULTILINE)
        assert json.loads(dvc(changed, "params", "diff", "--json"))["params/smoke.yaml"][f"{SWEEP}"]
        assert (
            "denoising.linear_mmse.psnr"
            in json.loads(dvc(changed, "metrics", "diff", "--all", "--json"))["results/smoke/metrics.json"]
        )
        content = dvc(changed, "plots", "diff", "--json", "HEAD", "workspace")
        assert "alpha=0.2" in content
        assert "alpha=0.1" in content

    def test_runs_by_the_profile_that_is_not_in_the_lock(self, changed, said):
        assert "Provided cores: 1 " in said
        commands = [stage["cmd"] for stage in yaml.safe_load((changed / "dvc.lock").read_text())["stages"].values()]
        assert len(commands) == 6
        assert all("${SNAKEMAKE_PROFILE:-profiles/default}" in command for command in commands)
        assert "cluster" not in (changed / "dvc.lock").read_text()
        assert RUNS not in dvc(changed, "repro")

    def test_is_consistent_for_both(self, changed):
        assert CLEAN in dvc(changed, "status")
        assert "reconstruct" not in planned(snakemake(changed, "-n", *SMOKE))


def test_a_stage_on_slurm_asks_for_a_gpu(tmp_path):
    """The command of the stage as it stands, with a dry run in place of the run."""
    project = copy_of_the_project(tmp_path)
    command = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]["train"]["cmd"]
    command = command.replace("\\$", "$").replace("${experiment}", "smoke").replace("snakemake ", "snakemake -n ", 1)
    assert re.search(r"Train .*\b1 GPU", run(project, "sh", "-c", command, SNAKEMAKE_PROFILE="profiles/slurm"))
    assert re.search(r"Train .*\b0 GPU", run(project, "sh", "-c", command))


@pytest.fixture(scope="module")
def shared(recorded, tmp_path_factory):
    """A copy whose results were pushed to a folder."""
    place = tmp_path_factory.mktemp("shared")
    project = copy_of_a_run(recorded, place / "project")
    dvc(project, "remote", "add", "--default", "store", str(place / "store"))
    commit(project)
    dvc(project, "push")
    return project


@pytest.fixture(scope="module")
def pulled(shared, tmp_path_factory):
    project = cloned(shared, tmp_path_factory.mktemp("pulled") / "project")
    make(project, "pull")
    return project


class TestAFreshClone:
    def test_has_everything_after_a_pull(self, shared, pulled):
        assert recorded_files(pulled) == recorded_files(shared)
        assert CLEAN in dvc(pulled, "status")
        assert RUNS not in dvc(pulled, "repro")

    def test_has_nothing_to_do_after_a_pull(self, pulled):
        output = snakemake(pulled, "-n", *SMOKE)
        assert NOTHING in output
        assert "missing provenance" not in output
        assert json.loads((pulled / "results/smoke/published.json").read_text())["status"] == "published"

    def test_knows_which_settings_were_pulled(self, pulled):
        """Snakemake was told of every file: one changed setting is seen as where the files were made."""
        settings = yaml.safe_load((pulled / "params/smoke.yaml").read_text())
        settings["methods"]["chavez"]["sweep"]["alpha"][2] = 0.2
        (pulled / "params/alpha.yaml").write_text(yaml.safe_dump(settings))
        assert planned(snakemake(pulled, "-n", "--configfile", "params/alpha.yaml"))["reconstruct"] == 3

    def test_keeps_changed_files_when_pulled_into(self, pulled, tmp_path):
        project = copy_of_a_run(pulled, tmp_path / "project")
        changes = {"results/smoke/summary.csv": b"mine", "results/smoke/flows/tiny/samples.npy": b"mine too"}
        for path, held in changes.items():
            (project / path).write_bytes(held)
        said = make(project, "pull", status=2)
        assert all(path in said for path in changes)
        assert all((project / path).read_bytes() == held for path, held in changes.items())
        line = next(line for line in said.splitlines() if line.startswith("flowprior: "))
        assert "dvc commit" in line
        assert "dvc checkout --force" in line
        dvc(project, "checkout", "--force")
        assert recorded_files(project) == recorded_files(pulled)

    def test_says_when_git_files_differ(self, pulled, tmp_path):
        """DVC pulls, for metrics are none of its files; the status is not clean."""
        project = copy_of_a_run(pulled, tmp_path / "project")
        metrics = project / "results/smoke/metrics.json"
        metrics.write_text(metrics.read_text() + " ")
        said = make(project, "pull", status=2)
        assert "git checkout results" in said
        assert "Touch" not in said
        assert metrics.read_text().endswith(" ")

    def test_says_which_remote_is_missing(self, recorded, tmp_path):
        said = make(cloned(recorded, tmp_path / "clone"), "pull", status=2)
        assert "dvc remote add --default" in said
        assert "Traceback" not in said

    def test_without_a_remote_has_no_images_for_dvc(self, recorded, tmp_path):
        clone = cloned(recorded, tmp_path / "clone")
        assert "missing data 'source'" in dvc(clone, "repro", status=255)


class TestMakeRepro:
    @pytest.fixture
    def project(self, recorded, tmp_path):
        return copy_of_a_run(recorded, tmp_path / "project")

    def test_fills_the_data_and_their_cache_first(self, project):
        shutil.rmtree(project / "data")
        # As in a clone: the images are pinned, and DVC's cache has none.
        held = yaml.safe_load((project / "data.dvc").read_text())["outs"][0]["md5"]
        (project / ".dvc/cache/files/md5" / held[:2] / held[2:]).unlink()
        assert "missing data 'source'" in dvc(project, "repro", status=255)
        said = make(project, "repro")
        assert "Fetch the raw images" in said
        assert RUNS not in said
        assert CLEAN in dvc(project, "status")
        assert (project / "data.dvc").read_text() == (ROOT / "data.dvc").read_text()

    def test_pins_no_other_images_by_itself(self, project):
        picture = project / "data/photos/rocket.jpg"
        picture.write_bytes(picture.read_bytes() + b"mine")
        said = make(project, "repro", status=2)
        assert picture.read_bytes().endswith(b"mine")
        assert (project / "data.dvc").read_text() == (ROOT / "data.dvc").read_text()
        assert "dvc commit data.dvc" in said
        assert RUNS not in said

    def test_experiments_start_from_what_is_recorded_only(self, project):
        """DVC brings back every recorded file when an experiment starts."""
        changed = project / "results/smoke/summary.csv"
        changed.write_text("mine")
        said = make(project, "exp", status=2)
        assert "results/smoke/summary.csv" in said
        assert "dvc commit" in said
        assert changed.read_text() == "mine"
