"""What jobs and runs say of themselves."""

import hashlib
import subprocess
from types import SimpleNamespace

import pytest

from flowprior.images.checksums import of_file
from flowprior.provenance.invocation import Invocation
from flowprior.provenance.job import JobFacts, job_facts
from flowprior.provenance.source import DIFF, UNKNOWN, commit


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "program.py").write_text("one")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_changed_program_has_a_diff_of_its_own(repository):
    clean = commit(repository)
    assert clean == (git(repository, "rev-parse", "HEAD"), None) and not clean.changed
    (repository / "new.txt").write_text("not tracked")
    assert commit(repository) == clean
    seen = set()
    for text in ("two", "three"):
        (repository / "program.py").write_text(text)
        now = commit(repository)
        assert now.name == clean.name and now.changed
        seen.add(now.diff)
    assert len(seen) == 2
    (repository / "program.py").write_text("one")
    assert commit(repository) == clean


def test_what_a_run_writes_and_git_tracks_is_no_change_of_its_source(repository):
    (repository / "results").mkdir()
    for file in ("results/metrics.json", "dvc.lock"):
        (repository / file).write_text("old")
    git(repository, "add", "-A")
    git(repository, "commit", "--quiet", "-m", "second")
    for file in ("results/metrics.json", "dvc.lock"):
        (repository / file).write_text("new")
    assert not commit(repository).changed


def test_changes_of_any_encoding_are_hashed_as_git_prints_them(repository):
    (repository / "program.py").write_bytes(b"caf\xe9\r\n")
    printed = subprocess.run(["git", *DIFF], cwd=repository, capture_output=True, check=True).stdout
    assert b"\xe9\r" in printed
    assert commit(repository).diff == hashlib.sha256(printed).hexdigest()


def test_what_git_does_not_say_is_not_known(repository, monkeypatch):
    run = subprocess.run

    def refuse(command, **options):
        if "diff" in command:
            raise subprocess.TimeoutExpired(command, 60)
        return run(command, **options)

    monkeypatch.setattr("flowprior.provenance.source.subprocess.run", refuse)
    found = commit(repository)
    assert found.name and found.diff == UNKNOWN and not found.changed
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("flowprior.provenance.source.subprocess.run", run)
    assert commit(repository) == (None, None)


def test_outside_a_repository_there_is_no_commit(tmp_path):
    assert commit(tmp_path) == (None, None)


def test_a_job_says_where_it_ran_of_what_and_how_long(repository, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    file = repository / "input.npy"
    file.write_bytes(b"123")
    job = SimpleNamespace(rule="train", wildcards={"prior": "glow"}, input=[file], params={"bits": 8}, threads=3)
    with job_facts(job, repository / "job.json"):
        assert not (repository / "job.json").exists()
    facts = JobFacts.read(repository / "job.json")
    assert (facts.rule, facts.wildcards, facts.threads, facts.slurm_job) == ("train", {"prior": "glow"}, 3, "77")
    assert facts.params == {"bits": 8}
    assert facts.inputs == {str(file): of_file(file)}
    assert facts.commit == commit(repository).name and facts.device.startswith("cpu (")
    assert 0 <= facts.seconds < 60 and 1 < facts.peak_memory_mb < 1e5
    with pytest.raises(RuntimeError), job_facts(job, repository / "failed.json"):
        raise RuntimeError
    assert not (repository / "failed.json").exists()


def test_a_call_of_the_workflow_is_told_from_the_next(tmp_path):
    calls = [Invocation.now(["/opt/bin/snakemake", "--config", "data={path: a b}"]) for _ in range(2)]
    assert calls[0].command == "snakemake --config 'data={path: a b}'"
    assert calls[0].name != calls[1].name and calls[0].name[:15] <= calls[1].name[:15]
    assert Invocation.now(["/lib/snakemake/__main__.py", "-n"]).command == "snakemake -n"
    assert Invocation.read(tmp_path / "call.json") is None
    calls[0].write(tmp_path / "call.json")
    assert Invocation.read(tmp_path / "call.json") == calls[0]
