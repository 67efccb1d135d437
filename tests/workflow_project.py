"""A copy of the project to run in, and its programs as a person calls them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PARTS = (
    "Snakefile",
    "Makefile",
    "workflow",
    "profiles",
    "params",
    "dvc.yaml",
    "data.dvc",
    ".dvc",
    ".dvcignore",
    ".gitignore",
)
SMOKE = ("--configfile", "params/smoke.yaml")
NOTHING = "Nothing to be done"


def copy_of_the_project(folder: Path) -> Path:
    """Everything that a run needs, and nothing that one left."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
            shutil.copytree(source, folder / part, ignore=ignored)
        else:
            shutil.copy(source, folder / part)
    return folder


def copy_of_a_run(project: Path, folder: Path) -> Path:
    """A project with all that a run left, the times of its files included."""
    return shutil.copytree(project, folder, symlinks=True, dirs_exist_ok=True)


def run(project: Path, *command: str, status: int = 0, **environment: str) -> str:
    """Run a program in a copy of the project; its whole output, after a look at the exit status."""
    theirs = ("SNAKEMAKE", "MLFLOW", "MAKE", "MFLAGS", "DVC", "GIT_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    programs = Path(sys.executable).parent
    done = subprocess.run(
        command,
        cwd=project,
        env={
            **inherited,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def snakemake(project: Path, *arguments: str, status: int = 0, **environment: str) -> str:
    """Run snakemake in a copy of the project."""
    command = (sys.executable, "-m", "snakemake", "--nocolor", *arguments)
    return run(project, *command, status=status, **environment)


def make(project: Path, *arguments: str, status: int = 0, **environment: str) -> str:
    """Run make in a copy of the project, with the programs of this environment instead of its own."""
    return run(project, "make", "--old-file=.venv/.installed", *arguments, status=status, **environment)


def planned(output: str) -> dict[str, int]:
    """Rule -> number of jobs, from the table of a dry run."""
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", output, re.MULTILINE | re.DOTALL)
    return {line.split()[0]: int(line.split()[1]) for line in table[1].splitlines()} if table else {}


def experiment_file(project: Path, name: str, **changes) -> str:
    """A file with the tiny experiment, changed; its name stays, so that results are shared."""
    settings = yaml.safe_load((project / "params" / "smoke.yaml").read_text())
    (project / "params" / f"{name}.yaml").write_text(yaml.safe_dump({**settings, **changes}))
    return f"params/{name}.yaml"
