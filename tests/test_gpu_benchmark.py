"""What of the benchmark on a GPU needs none: its comparisons, its choice of parts, what it imports, its script."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pieces import small_flow

# The benchmarks are no part of the installed package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as program
from benchmarks import accelerator, agreement, cases, inversion, paper_flow, problems
from flowprior.errors import FlowpriorError
from flowprior.models import flows
from flowprior.models.flows.evaluators import FoldedFlow

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
#: What the machine with the GPU need not have.
BLOCKED = (
    *("snakemake", "mlflow", "dvc", "pandas", "pyarrow", "scipy", "skimage", "PIL", "matplotlib"),
    *("typer", "rich", "jinja2", "jsonschema"),
)


@pytest.mark.parametrize("arithmetic", ["float64", "float32", "bf16"])
@pytest.mark.parametrize("name", flows.names())
def test_a_flow_agrees_with_itself_in_every_arithmetic(name, arithmetic):
    found = list(agreement._flow_checks(small_flow(name, scale=0.03), arithmetic, CPU, 3))
    assert len(found) == 4 and [str(check) for check in found if not check.right] == []


def test_a_flow_that_computes_something_else_is_found(monkeypatch):
    exact = FoldedFlow.forward

    def wrong(self, x):
        z, log_det = exact(self, x)
        return z, log_det + 0.01 * self.dimensions

    monkeypatch.setattr(FoldedFlow, "forward", wrong)
    found = {check.name: check for check in agreement._flow_checks(small_flow("haar_glow"), "bf16", CPU, 3)}
    right = {name.rsplit(", ", 1)[1]: check.right for name, check in found.items()}
    assert right == {"log prob": False, "log det": False, "round trip": True, "gradient": True}


def test_a_comparison_that_is_not_finite_is_wrong():
    assert not agreement.Check("", float("nan"), 1.0).right
    assert agreement.Check("", 1.0, 1.0).right


def test_disagreement_ends_with_status_1(monkeypatch, capsys):
    made = [agreement.Check("first", 0.1, 1.0), agreement.Check("second", 2.0, 1.0)]
    monkeypatch.setattr(agreement, "checks", lambda *_: iter(made))
    with pytest.raises(SystemExit, match="wrong on cpu: 1 comparison"):
        agreement.main([])
    assert capsys.readouterr().out.splitlines() == [
        "ok     first: 0.1, at most 1",
        "WRONG  second: 2, at most 1",
    ]
    monkeypatch.setattr(agreement, "checks", lambda *_: iter(made[:1]))
    agreement.main([])


def test_parts_that_a_gpu_can_run():
    assert program.chosen(None, None, "cuda") == program.ON_GPU
    assert program.chosen(["training", "inversion"], None, "cuda") == ("inversion", "training")
    with pytest.raises(FlowpriorError, match="memory runs on the CPU, got --device cuda"):
        program.chosen(["memory"], None, "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there():
    with pytest.raises(FlowpriorError, match=r"--device cuda: this torch .* sees no GPU; use --device cpu"):
        accelerator.device_named("cuda")
    with pytest.raises(FlowpriorError, match=r"--device gpu: .*; use cpu or cuda"):
        accelerator.device_named("gpu")


@pytest.mark.usefixtures("no_kernel")  # it would answer for bf16 in float32
def test_contenders_of_a_gpu_find_the_same(monkeypatch):
    every = tuple({name: None for case in cases.GPU.flows for name in case.contenders})
    case = cases.Case("haar_glow", {"levels": 2, "steps": 1, "hidden": 4}, size=8, batch=3, contenders=every)
    problem = problems.problem_of(case, CPU)
    problems.check_agreement(problem)
    assert {name for name, entry in inversion.contenders_of(problem).items() if entry.run(2) > 0} == set(every)
    forward = FoldedFlow.inverse

    def without_gradient(self, z):
        x, log_det = forward(self, z)
        return x.detach() + 0 * z.sum(), log_det

    monkeypatch.setattr(FoldedFlow, "inverse", without_gradient)
    with pytest.raises(FlowpriorError, match=r"change by .* in 3 steps.*nothing was timed"):
        problems.check_agreement(problem)


def test_the_papers_flow_is_trained_on_prepared_images(tmp_path):
    source = np.random.default_rng(0)
    for split in ("train", "validation"):
        np.save(tmp_path / f"{split}.npy", source.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8))
    found = paper_flow.learn(tmp_path, CPU, 0.0, "float32", 4, tmp_path)
    assert found.steps == 20 and 0 < found.bits_per_dim < 10
    assert flows.load(tmp_path / "paper_flow_float32").settings.hidden == 4
    with pytest.raises(FlowpriorError, match="no prepared images at"):
        paper_flow.learn(tmp_path / "elsewhere", CPU, 0.0, "float32", 4, tmp_path)


def test_what_the_gpu_needs_is_torch_numpy_pydantic_pyyaml_and_safetensors():
    blocker = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(f"{{name}} is not to be needed")
sys.meta_path.insert(0, Blocker())
import benchmarks.__main__, benchmarks.agreement, benchmarks.machine, benchmarks.table
import benchmarks.inversion, benchmarks.training, benchmarks.paper_flow
import torch
from pieces import small_flow
found = benchmarks.agreement._flow_checks(small_flow("glow"), "float32", torch.device("cpu"), 2)
print(sum(check.right for check in found))
"""
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", blocker], env=environment, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("4", 0), done.stderr


def script(*arguments, **environment):
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments]
    return subprocess.run(command, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True)


def test_the_script_says_what_is_missing(tmp_path):
    assert "unknown option '--fast'; there is --small" in script("--fast", OUT=str(tmp_path)).stderr
    assert "no /nowhere/train.npy" in script("/nowhere", OUT=str(tmp_path)).stderr
    # A Python that has torch and none of the others.
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = - ] && echo pydantic safetensors\nexit 0\n')
    python.chmod(0o755)
    (tmp_path / "wheels").mkdir()
    done = script(PYTHON=str(python), OUT=str(tmp_path), WHEELS=str(tmp_path / "wheels"))
    assert done.returncode == 1
    assert "missing: pydantic safetensors. Where there is a network: pip download" in done.stderr
