"""`flowprior prune` removes what no job makes any more, and nothing else."""

from pathlib import Path

import pandas as pd
import pytest
from report_fixture import fabricate, tiny_experiment
from workflow_project import SMOKE, copy_of_a_run, experiment_file, run, snakemake

from flowprior.errors import FlowpriorError
from flowprior.experiment.loading import load_experiment
from flowprior.experiment.plan import jobs
from flowprior.experiment.pruning import check_idle, expected_files, remove, stale_files
from flowprior.report import Layout

pytestmark = pytest.mark.slow


def put(root: Path, *paths: str) -> list[Path]:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("old")
    return [root / path for path in paths]


def test_a_finished_run_leaves_nothing_stale(tiny_run):
    experiment = load_experiment(tiny_run / "params/smoke.yaml")
    assert stale_files(experiment, tiny_run) == []
    # And what is expected is what the workflow makes: all of it lies there, but complaints of failed jobs.
    missing = {path for path in expected_files(experiment) if not (tiny_run / path).exists()}
    assert {path.suffix for path in missing} == {".error"}


def test_finds_what_was_removed_from_the_experiment(tmp_path):
    fabricate(tmp_path, tiny_experiment())
    assert stale_files(tiny_experiment(), tmp_path) == []
    before = tiny_experiment()
    methods = {name: plan.model_dump() for name, plan in before.methods.items() if name != "bm3d"}
    methods["chavez"]["sweep"] = {"alpha": [0.0]}
    after = tiny_experiment(methods=methods)
    layout = Layout(before, tmp_path)
    gone = set(jobs(before)) - set(jobs(after))
    assert {(job.method, job.chunk) for job in gone} == {("bm3d", 0), ("chavez", 1)}
    stale = set(stale_files(after, tmp_path))
    for job in jobs(before):
        path = layout.solved(job, "images")
        assert (path in stale) == (job in gone), path
    assert all("bm3d" in path.parts or path.name.startswith("1.") for path in stale)


def test_finds_removed_priors_tasks_figures_and_their_logs(tmp_path):
    fabricate(tmp_path, tiny_experiment())
    stale = put(
        tmp_path,
        "results/tiny/flows/old_flow/weights.safetensors",
        "results/tiny/training/old_flow/state.safetensors",
        "results/tiny/measurements/old_task/test.npz",
        "results/tiny/figures/grid_old_task.png",
        "results/tiny/tables/old.csv",
        "results/tiny/plots/old.csv",
        "results/tiny/benchmarks/train/old_flow.tsv",
        "results/tiny/flows/flow_a/.weights.4242.part.safetensors",
        "logs/tiny/train/old_flow.log",
        "logs/tiny/train/old_flow.log.error",
    )
    assert stale_files(tiny_experiment(), tmp_path) == sorted(stale)


def test_keeps_what_no_job_makes_and_what_belongs_to_others(tmp_path):
    fabricate(tmp_path, tiny_experiment())
    kept = put(
        tmp_path,
        "results/tiny/training/flow_a/state.safetensors",
        "results/tiny/invocation.json",
        "results/tiny/published.json",
        "results/tiny/provenance.json",
        "results/tiny/notes of mine.txt",
        "results/tiny/plots/curves.csv",
        "results/tiny/flows/.gitignore",
        "results/other/flows/q/weights.safetensors",
        "logs/other/train/q.log",
        "logs/tiny/train/flow_a.log",
        "prepared/key/train.npy",
        "data/photos/rocket.jpg",
    )
    link = tmp_path / "results/tiny/flows/elsewhere"
    link.symlink_to(tmp_path / "data")
    assert stale_files(tiny_experiment(), tmp_path) == [link]
    remove([link])
    assert all(path.exists() for path in kept)


def test_empty_folders_go_too(tmp_path):
    remove(put(tmp_path, "results/tiny/figures/a/b/old.png", "logs/tiny/old.log"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["logs", "results"]


def test_waits_for_a_run_to_end(tmp_path):
    check_idle(tmp_path)
    put(tmp_path, ".snakemake/locks/0.output.lock")
    with pytest.raises(FlowpriorError, match="snakemake --unlock"):
        check_idle(tmp_path)


@pytest.fixture(scope="module")
def shortened(tiny_run, tmp_path_factory):
    """The tiny experiment with the last value of a sweep taken away: its chunk lies there, and no job makes it."""
    project = copy_of_a_run(tiny_run, tmp_path_factory.mktemp("shortened"))
    methods = load_experiment(project / "params/smoke.yaml").model_dump(mode="json")["methods"]
    methods["chavez"]["sweep"]["alpha"].pop()
    experiment_file(project, "shorter", methods=methods)
    return project


STALE = "results/smoke/reconstructions/denoising/chavez/tiny/test/1.rows.parquet"
KEPT = "results/smoke/reconstructions/denoising/chavez/tiny/test/0.rows.parquet"


class TestAShortenedSweep:
    def test_keeps_stale_chunks_out_of_every_table(self, shortened):
        assert set(pd.read_parquet(shortened / STALE)["setting"]) == {"alpha=0.1"}
        said = snakemake(shortened, "--configfile", "params/shorter.yaml", "--", "evaluate_all")
        assert "Solve" not in said
        for table in ("rows.parquet", "traces.parquet"):
            held = pd.read_parquet(shortened / "results/smoke" / table)
            assert set(held.loc[held["method"] == "chavez", "setting"]) == {"alpha=0.02", "alpha=0.05"}
        for path in (shortened / "results/smoke").glob("*.csv"):
            assert "alpha=0.1" not in path.read_text()

    def test_is_tidied_by_prune(self, shortened, tmp_path):
        project = copy_of_a_run(shortened, tmp_path / "project")
        said = run(project, "flowprior", "prune", "params/shorter.yaml", "--dry-run")
        lines = said.splitlines()
        # Three sets of images: rows, traces, images, maps and the job's facts; time and log.
        assert lines[-1].startswith("would remove 21 files, ")
        assert any(line.startswith(f"{STALE}  ") and line.endswith("kB") for line in lines)
        assert (project / STALE).exists()
        said = run(project, "flowprior", "prune", "params/shorter.yaml")
        assert said.splitlines()[-1].startswith("removed 21 files, ")
        assert not (project / STALE).exists()
        assert (project / KEPT).exists()
        assert "removed 0 files" in run(project, "flowprior", "prune", "params/shorter.yaml")

    def test_with_another_chunk_in_its_place_is_refused(self, shortened, tmp_path):
        """As DVC does when it brings back another commit's files: name and place are right, the content is not."""
        project = copy_of_a_run(shortened, tmp_path / "project")
        (project / KEPT).write_bytes((project / STALE).read_bytes())
        said = snakemake(project, "--configfile", "params/shorter.yaml", "--", "evaluate_all", status=2)
        line = said.splitlines()[-1]
        assert line.startswith(f"flowprior: {KEPT} holds setting 'alpha=0.1'")
        assert "remove it" in line


def test_somewhere_else_prune_says_so(tmp_path):
    params = Path(__file__).parents[1] / SMOKE[1]
    said = run(tmp_path, "flowprior", "prune", str(params), status=2)
    assert said.startswith("flowprior: no folder results/smoke here")
