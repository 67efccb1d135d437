"""What is collected of results, and what is said when they no longer agree with it."""

import hashlib
import json
import math
import subprocess
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from report_fixture import fabricate, tiny_experiment
from test_provenance import git

from flowprior.errors import FlowpriorError
from flowprior.experiment.loading import experiment_from
from flowprior.experiment.plan import jobs
from flowprior.images.checksums import of_file
from flowprior.models.gaussian import Gaussian
from flowprior.provenance.collected import collect, listed_hashes, result_files
from flowprior.provenance.data import folder_md5, pinned
from flowprior.provenance.invocation import Invocation
from flowprior.provenance.job import JobFacts
from flowprior.provenance.recomputing import recompute, sample
from flowprior.provenance.reproducing import settings_text
from flowprior.provenance.verification import read, verify
from flowprior.report import Layout, build

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    methods = {"map": {"sweep": {"noise_std": [0.05, 0.1]}}, "linear_mmse": {}}
    experiment = tiny_experiment(methods=methods, tasks={"denoising": {"operator": "identity"}}, reference=None)
    fabricate(root, experiment)
    (root / "requirements.lock").write_text("torch==2\n")
    return Layout(experiment, root)


@pytest.fixture(scope="module")
def whole(tree):
    """The page and its provenance, with jobs that read what there is."""
    for path in (*tree.results.rglob("job.json"), *tree.results.rglob("*.job.json")):
        path.write_bytes(facts_of(path, inputs={}))
    build(tree.experiment, tree.root)
    return tree


@pytest.fixture
def changed():
    """Change a file for one test."""
    kept = {}

    def change(path, content):
        kept.setdefault(path, path.read_bytes() if path.exists() else None)
        path.write_bytes(content) if content is not None else path.unlink()

    yield change
    for path, content in kept.items():
        path.write_bytes(content) if content is not None else path.unlink()


def facts_of(path, **changes):
    return json.dumps({**asdict(JobFacts.read(path)), **changes}).encode()


class TestCollecting:
    def test_every_result_is_hashed_as_it_lies(self, tree):
        found = collect(tree.experiment, tree.root)
        listed = listed_hashes(found)
        for path in [*result_files(tree), tree.prepared("train"), tree.root / "requirements.lock"]:
            if path.exists():
                assert listed[path.relative_to(tree.root).as_posix()] == of_file(path)
        pictures = [name for name in listed if name.endswith(".images.npy")]
        assert len(pictures) == len(jobs(tree.experiment))
        assert found["source"]["lock"] == listed["requirements.lock"]
        assert found["seeds"] == [3]
        assert json.loads(json.dumps(found)) == found

    def test_the_same_files_give_the_same_facts(self, tree):
        assert collect(tree.experiment, tree.root) == collect(tree.experiment, tree.root)

    def test_each_job_stands_with_its_time_and_place(self, tree):
        found = collect(tree.experiment, tree.root)["jobs"]
        train = next(job for job in found if job["rule"] == "train")
        assert (train["seconds"], train["peak_memory_mb"], train["host"]) == (12.5, 812.4, "node7")
        assert train["slurm_job"] == "4242" and train["commit"].startswith("c0ffee")
        assert [job["rule"] for job in found].count("reconstruct") == 4
        assert {job["seconds"] for job in found} == {12.5}

    def test_a_job_without_its_file_is_counted_and_keeps_its_time(self, tree, changed):
        changed(tree.flow("flow_a", "job"), None)
        found = collect(tree.experiment, tree.root)
        train = next(job for job in found["jobs"] if job["rule"] == "train")
        assert found["undescribed"] == 1
        assert train["host"] is None and train["seconds"] == 12.5

    def test_machines_and_commits_are_told_apart(self, tree, changed):
        changed(tree.flow("flow_a", "job"), facts_of(tree.flow("flow_a", "job"), host="gpu1", commit="ab" * 20))
        found = collect(tree.experiment, tree.root)
        assert [place["host"] for place in found["machines"]] == ["gpu1", "node7"]
        assert found["machines"][0]["jobs"] == 1
        assert [state["commit"][:4] if state["commit"] else None for state in found["commits"]] == [
            None,
            "abab",
            "c0ff",
        ]
        assert any("abab" in line for line in found["reproduce"])

    def test_the_commands_name_the_commit_and_what_no_commit_has(self, tmp_path):
        experiment = tiny_experiment()
        git(tmp_path, "init", "--quiet")
        (tmp_path / "program.py").write_text("one")
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "--quiet", "-m", "first")
        head = git(tmp_path, "rev-parse", "HEAD")
        clean = collect(experiment, tmp_path)["reproduce"]
        assert clean[:2] == [f"git checkout {head}", "make install"]
        assert clean[-2:] == [
            ".venv/bin/snakemake --configfile results/tiny/settings.yaml",
            ".venv/bin/flowprior verify results/tiny",
        ]
        (tmp_path / "program.py").write_text("two")
        found = collect(experiment, tmp_path)
        digits = found["source"]["diff"].removeprefix("sha256:")
        assert any(digits in line for line in found["reproduce"])
        (command,) = [line for line in found["reproduce"] if line.startswith("git diff")]
        assert subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True).stdout[:64] == digits

    def test_what_was_called_is_kept(self, tree, changed):
        assert collect(tree.experiment, tree.root)["invocation"] is None
        call = Invocation.now(["snakemake", "--config", "seed=3"])
        changed(tree.invocation, json.dumps(asdict(call)).encode())
        assert collect(tree.experiment, tree.root)["invocation"]["command"] == "snakemake --config seed=3"

    def test_nothing_at_all_is_no_error(self, tmp_path):
        found = collect(tiny_experiment(), tmp_path)
        assert found["files"] == {} and found["source"]["lock"] is None and found["machines"] == []

    @pytest.mark.parametrize(
        "changes", [{}, {"priors": {"p": {"flow": "glow", "training": {"clip_norm": None, "learning_rate": 1e-7}}}}]
    )
    def test_the_settings_file_is_the_experiment(self, changes):
        experiment = tiny_experiment(**changes)
        assert experiment_from(yaml.safe_load(settings_text(experiment))) == experiment


class TestThePin:
    def pin(self, root, folder):
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        out = {"md5": folder_md5(folder), "size": sum(sizes), "nfiles": len(sizes), "path": folder.name}
        (root / "data.dvc").write_text(yaml.safe_dump({"outs": [out]}))
        return out["md5"]

    def test_is_recorded_where_it_is_of_these_images(self, tmp_path):
        (tmp_path / "data" / "photos").mkdir(parents=True)
        (tmp_path / "data" / "photos" / "a.png").write_bytes(b"123")
        data = tiny_experiment().data
        assert pinned(data, tmp_path) is None
        md5 = self.pin(tmp_path, tmp_path / "data")
        listed = json.dumps([{"md5": hashlib.md5(b"123").hexdigest(), "relpath": "photos/a.png"}])
        assert md5 == hashlib.md5(listed.encode()).hexdigest() + ".dir"
        assert pinned(data, tmp_path) == md5
        assert pinned(data.model_copy(update={"path": "/elsewhere"}), tmp_path) is None
        (tmp_path / "data" / "more.png").write_bytes(b"4")
        assert pinned(data, tmp_path) is None


class TestTheSample:
    rows = pd.DataFrame(
        [
            (task, method, i)
            for task in "ab"
            for method in ("map", "slow")
            for i in range(1 if method == "slow" else 50)
        ],
        columns=["task", "method", "image"],
    )

    def test_every_pair_has_a_row_before_any_has_two(self):
        for seed in range(5):
            pairs = [(row["task"], row["method"]) for row in sample(self.rows, 4, seed)]
            assert len(set(pairs)) == 4
        assert len(sample(self.rows, 10**6, 0)) == len(self.rows)

    def test_the_seed_decides(self):
        assert sample(self.rows, 5, 1) == sample(self.rows, 5, 1)
        assert len({tuple(row["image"] for row in sample(self.rows, 5, seed)) for seed in range(5)}) > 1


class TestVerifying:
    def test_what_was_just_made_agrees(self, whole):
        verdict = verify(whole.results, rows=30, solve=0)
        assert verdict.differences == ()
        assert verdict.rows == 30 and verdict.solved == 0
        assert verdict.files == len(listed_hashes(read(whole.provenance)))
        assert verdict.summary() == f"everything agrees: {verdict.files} files, 30 rows, 0 solved again"

    @pytest.mark.parametrize(
        "name",
        ["tables/results.csv", "measurements/denoising/test.npz", "report.html", "settings.yaml", "metrics.json"],
    )
    def test_a_changed_byte_is_named(self, whole, changed, name):
        path = whole.results / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        changed(path, bytes(content))
        (line,) = verify(whole.results, rows=0).differences
        assert line.startswith(f"results/tiny/{name} differs: {of_file(path)}, recorded sha256:")

    def test_a_missing_file_is_named(self, whole, changed):
        changed(whole.table("paired").with_suffix(".tex"), None)
        (line,) = verify(whole.results, rows=0).differences
        assert line.startswith("results/tiny/tables/paired.tex is missing")

    @pytest.mark.parametrize("column", ["psnr", "ssim"])
    def test_a_changed_number_is_named_by_its_hash_and_by_its_picture(self, whole, changed, column):
        path = whole.results / "rows.parquet"
        rows = pd.read_parquet(path)
        rows.loc[7, column] += 1.5 if column == "psnr" else -0.2
        changed(path, path.read_bytes())
        rows.to_parquet(path, index=False)
        differences = verify(whole.results, rows=10**6, solve=0).differences
        assert len(differences) == 2
        assert "results/tiny/rows.parquet differs" in differences[0]
        assert rows.loc[7, "image"] in differences[1] and f"{column} {rows.loc[7, column]:.4f}" in differences[1]

    def test_a_job_that_read_another_file_is_named(self, whole, changed):
        provenance = read(whole.provenance)
        job = next(job for job in provenance["jobs"] if job["rule"] == "train")
        job["inputs"] = {whole.prepared("test").relative_to(whole.root).as_posix(): "sha256:" + "0" * 64}
        changed(whole.provenance, json.dumps(provenance).encode())
        (line,) = verify(whole.results, rows=0).differences
        assert line.startswith("train flow_a read another prepared/")

    def test_a_value_that_never_was_is_no_difference_where_its_status_says_so(self, whole, changed):
        path = whole.results / "rows.parquet"
        rows = pd.read_parquet(path)
        rows.loc[:, ["psnr", "ssim"]] = math.nan
        changed(path, path.read_bytes())
        rows.assign(status="diverged").to_parquet(path, index=False)
        assert len(verify(whole.results, rows=10**6, solve=0).differences) == 1  # the hash
        rows.to_parquet(path, index=False)
        assert len(verify(whole.results, rows=10, solve=0).differences) == 21

    def test_rows_that_cannot_be_read_are_said(self, whole, changed):
        changed(whole.results / "rows.parquet", b"no table")
        assert verify(whole.results).differences[-1].endswith("rows.parquet cannot be read: no row was computed again")

    @pytest.mark.parametrize(
        ("content", "said"),
        [(None, "no provenance at"), (b"{", "is damaged"), (b'{"format": 99}', "has format 99, this version reads 1")],
    )
    def test_without_a_readable_provenance_it_says_what_to_do(self, whole, changed, content, said):
        changed(whole.provenance, content)
        with pytest.raises(FlowpriorError, match=said):
            verify(whole.results)

    def test_a_renamed_folder_is_an_error(self, whole, tmp_path):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "provenance.json").write_bytes(whole.provenance.read_bytes())
        with pytest.raises(FlowpriorError, match="holds the results of 'tiny'"):
            verify(tmp_path / "other")


def test_what_a_method_said_of_its_certainty_is_compared_when_it_solves_again(tmp_path):
    """Rows made by solving; those of older versions say nothing of it, and nothing of it is compared."""
    task = {"denoising": {"operator": "identity", "noise_std": 0.1}}
    experiment = tiny_experiment(methods={"linear_posterior": {}}, tasks=task, reference=None)
    fabricate(tmp_path, experiment)
    layout = Layout(experiment, tmp_path)
    truth = torch.from_numpy(np.load(layout.prepared("validation"))).permute(0, 3, 1, 2).float() / 255
    layout.fitted("gaussian").parent.mkdir(parents=True, exist_ok=True)
    Gaussian.fit(truth).save(layout.fitted("gaussian"))
    row = sample(pd.read_parquet(layout.evaluated("rows")), 1, 0)[0]
    row = {name: value for name, value in row.items() if name not in ("coverage", "crps")}
    silent = recompute(layout, row, solve=True).differences
    assert not [line for line in silent if "coverage" in line or "crps" in line]
    plain = recompute(layout, {**row, "coverage": 0.9, "crps": 0.02}, solve=True).differences
    lines = [line for line in plain if "coverage" in line or "crps" in line]
    assert len(lines) == 2
    coverage, crps = (float(line.partition("but ")[2].split()[0]) for line in lines)
    again = recompute(layout, {**row, "coverage": coverage, "crps": crps}, solve=True).differences
    assert not [line for line in again if "coverage" in line or "crps" in line]
