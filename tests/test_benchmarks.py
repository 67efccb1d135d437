"""The benchmark as an instrument: what it counts, whose turn it is, what it writes, that contenders agree."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pieces import pictures, small_flow

# The benchmarks are no part of the installed package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as program
from benchmarks import (
    cases,
    flops,
    inversion,
    plots,
    precision,
    problems,
    quality,
    table,
    timing,
    whole_task,
    workflow_share,
)
from benchmarks.model import Options, Part, Ratio, Row, Target
from benchmarks.photographs import Subject
from flowprior.errors import FlowpriorError, UnknownNameError
from flowprior.models import flows

MACHINE = {
    "cpu": "a CPU",
    "cores": 2,
    "vector_flags": ["avx2"],
    "torch": "2",
    "threads": 2,
    "kernel_lanes": 8,
    "load_before": [0.1, 0.1, 0.1],
    "matmul_gflops": {"one_thread": 50.0, "all_threads": 100.0},
    "best_convolution": {"gflops": 80.0, "shape": "48 to 48 channels"},
}


class Clock:
    """Time that passes only when a contender works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def contender(self, seconds_per_step, log=None, name="", **settings):
        def run(steps):
            self.now += steps * seconds_per_step
            if log is not None:
                log.append((name, steps))

        return timing.Contender(run, **settings)


def test_multiply_adds_of_a_convolution():
    layer = torch.nn.Conv2d(3, 5, 3, padding=1)
    # Taps at an edge miss the map: along a side of 4, 3 * 4 - 2 of the 12 pairs of output and tap meet it.
    assert flops.multiply_adds(layer, torch.zeros(2, 3, 4, 6)) == flops.Count(2 * 15 * 10 * 16, 2 * 15 * 12 * 18)
    strided = torch.nn.Conv2d(3, 5, 2, stride=2)
    assert flops.multiply_adds(strided, torch.zeros(1, 3, 4, 4)) == flops.Count(15 * 4 * 4, 15 * 4 * 4)


def test_multiply_adds_of_a_flow():
    flow = flows.build("haar_glow", (3, 8, 8), levels=2, steps=2, hidden=5)

    def step(side):
        inside = (3 * side - 2) ** 2  # pairs of pixel and tap of a 3x3 kernel inside the map
        network = (6 * 5 + 5 * 12) * inside + 5 * 5 * side**2
        return network + 12 * 12 * side**2  # the 1x1 convolution on all 12 channels

    count = flops.per_image(flow.log_prob, flow.shape)
    assert count.useful == 2 * step(4) + 2 * step(2)
    assert count.padded > count.useful
    assert flops.per_image(lambda x: flow.inverse(x.flatten(1)), flow.shape) == count
    assert flops.gflops(flops.Count(10**9, 0), 2.0) == 8.0


def test_contenders_take_turns():
    clock, log = Clock(), []
    contenders = {
        "a": clock.contender(0.5, log, "a", work=8.0, least=2),
        "b": clock.contender(0.125, log, "b", work=8.0, least=4),
    }
    found = timing.interleaved(contenders, seconds=2.0, rounds=3, clock=clock)
    turns = [entry for entry in log if entry[1] in (4, 16)][-6:]
    assert turns == [("a", 4), ("b", 16)] * 3
    assert found["a"].rates == (16.0,) * 3 and found["b"].rates == (64.0,) * 3
    assert timing.ratio(found["b"], found["a"], "a") == Ratio(4.0, 4.0, 4.0, "a")


def test_a_run_is_never_shorter_than_the_least_steps_and_own_clocks_count():
    clock = Clock()
    slow = timing.interleaved({"a": clock.contender(10.0, least=3)}, seconds=1.0, rounds=2, clock=clock)["a"]
    assert slow.steps == 3 and slow.median == pytest.approx(0.1)
    own = timing.Contender(lambda steps: steps * 0.25, work=2.0)
    assert timing.interleaved({"a": own}, seconds=1.0, rounds=2, clock=clock)["a"].rates == (8.0, 8.0)


def test_ratios_are_of_the_same_round():
    # The machine slows down by ten between the rounds: the ratio does not see it.
    fast, slow = timing.Timing(1, (40.0, 4.0, 0.4)), timing.Timing(1, (20.0, 2.0, 0.2))
    found = timing.ratio(fast, slow, "slow")
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))


ROWS = (
    Row("small", "plain", 1234.5, "images/s", (1200.0, 1300.0)),
    Row("small", "ours", 5000.0, "images/s", (5000.0, 5000.0), Ratio(4.05, 4.0, 4.2, "plain"), Target("at least", 4)),
    Row("a|b", "ours", None, "", None, Ratio(5.0, 5.0, 5.0, "32 px"), Target("at most", 4.5), "slow"),
    Row("none", "ours", None, target=Target("at least", 2)),
    Row("quick", "ours", 1.0, "GB", target=Target("at most", 2, judged=False)),
)


def test_the_table():
    assert table.table(ROWS)[2:] == [
        "| small | plain | 1230 images/s (1200 to 1300) |  |  |  |",
        "|  | ours | 5000 images/s | **4.05** x plain (4.00 to 4.20) | at least 4: met |  |",
        "| a\\|b | ours |  | **5.00** x 32 px | at most 4.5: missed | slow |",
        "| none | ours |  |  | at least 2: missed |  |",
        "| quick | ours | 1 GB |  | at most 2: not judged |  |",
    ]


def test_files_begin_with_the_machine(tmp_path):
    part = Part("A part", ROWS, ("A note.",))
    table.write(tmp_path, MACHINE, True, {"first": part})
    text = (tmp_path / "bench.md").read_text()
    assert "Quick mode" in text and "- A note." in text and "not idle" not in text
    report = json.loads((tmp_path / "bench.json").read_text())
    assert list(report) == ["machine", "mode", "parts"]
    assert [row["verdict"] for row in report["parts"]["first"]["rows"]] == ["", "met", "missed", "missed", "not judged"]
    busy = table.markdown({**MACHINE, "load_before": [3.0, 1, 1], "kernel_lanes": None}, False, {})
    assert "not idle" in busy and "torch runs all flows" in busy


@pytest.mark.parametrize("objective", ["latent", "image"])
def test_contenders_find_the_same(objective):
    settings = {"levels": 2, "steps": 1, "hidden": 4}
    case = cases.Case("haar_glow", settings, size=8, batch=3, objective=objective)
    problem = problems.problem_of(case)
    problems.check_agreement(problem)
    found = {name: entry.run(2) for name, entry in inversion.contenders_of(problem).items()}
    assert set(found) == set(case.contenders) and min(found.values()) > 0
    with pytest.raises(FlowpriorError, match="nothing was timed"):
        problems.check_agreement(replace(problem, y=problem.y + 1, memory={}, start=problem.start + 1))


def test_where_a_line_reaches_a_level():
    line = quality.Line((0, 10, 20), (0.1, 0.2, 0.3), (20.0, 25.0, 24.0))
    assert line.reaches(24.5) == (10, 0.2)
    assert line.reaches(26.0) is None


def test_both_precisions_are_really_run_and_a_loss_is_judged(tmp_path, monkeypatch):
    chosen = Subject(small_flow("haar_glow", dtype=torch.float32), pictures(6, 0), tuple("abcdef"), 8, "Six pictures.")
    monkeypatch.setattr(precision, "subject", lambda options, count: chosen)
    monkeypatch.setattr(precision, "SEARCHES", {"map": {"steps": 5, "learning_rate": 0.02}})
    monkeypatch.setattr(precision, "TASKS", {name: quality.TASKS[name] for name in ("denoising", "colorization")})
    rows = precision.run(Options(quick=False, out=tmp_path)).rows
    assert [row.case for row in rows] == ["denoising", "colorization"]
    for row in rows:
        # Half precision ends elsewhere, and near.
        assert 0 < row.facts["rms"] < 0.5
        assert row.target.verdict(-0.03) == "missed"


def test_a_whole_task_is_that_of_the_paper_s_file(tmp_path, monkeypatch):
    chosen = Subject(small_flow("haar_glow", dtype=torch.float32), pictures(3, 0), tuple("abc"), 8, "Three pictures.")
    monkeypatch.setattr(whole_task, "_stand_in", lambda count: chosen)
    rows = whole_task.run(Options(quick=True, out=tmp_path)).rows
    assert [row.case for row in rows] == ["denoising", "deblurring", "inpainting", "colorization"]
    assert [row.facts["steps"] for row in rows] == [150, 150, 40, 150] and rows[1].facts["optimiser"] == "lbfgs"
    assert all(row.value > 0 and row.target.verdict(61) == "not judged" for row in rows)


def test_parts_by_name():
    assert program.chosen(None, None) == program.PARTS[:-1]
    assert program.chosen(None, Path("results/demo")) == program.PARTS
    assert program.chosen(["memory", "inversion"], None) == ("inversion", "memory")
    with pytest.raises(UnknownNameError, match="unknown benchmark 'inverson'; did you mean 'inversion'"):
        program.main(["--only", "inverson"])
    with pytest.raises(FlowpriorError, match="--results"):
        program.main(["--only", "workflow_share"])


def test_what_of_a_workflow_is_not_computing(tmp_path):
    import pandas as pd

    for name, seconds in {
        "reconstruct/denoising/map/0": 8.0,
        "reconstruct/deblurring/map/0": 2.0,
        "evaluate": 5.0,
    }.items():
        path = tmp_path / "benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}\t0:00:00\n")
    with pytest.raises(FlowpriorError, match="not finished"):
        workflow_share.run(Options(True, tmp_path, results=tmp_path))
    pd.DataFrame({"seconds": [1.0, 2.0, 3.0]}).to_parquet(tmp_path / "rows.parquet")
    part = workflow_share.run(Options(True, tmp_path, results=tmp_path))
    assert {row.facts["rule"]: row.facts.get("share") for row in part.rows} == {
        "reconstruct": pytest.approx(0.4),
        "evaluate": None,
        "all": pytest.approx(0.6),
    }


def test_every_plot_can_be_drawn(tmp_path):
    plain = Row("case", "plain", 10.0, "images/s", facts={"group": "batches", "batch": 8})
    ratio, target = Ratio(3.0, 2.5, 3.5, "plain"), Target("at least", 2)
    rows = (
        plain,
        *(
            Row("case", "flowprior", 30.0, "x", None, ratio, target, facts={"group": group, "batch": 8, "size": 32})
            for group in ("flows", "sizes", "batches")
        ),
    )
    memory = Part("", (Row("", "flowprior", 0.5, "GB", target=Target("at most", 2), facts={"images": 200}),))
    curve = {"panel": "denoising", "label": "map", "x": (0.1, 1.0), "y": (20.0, 25.0), "level": 24.0}
    speed = Part("", rows)
    parts = {
        "inversion": speed,
        "training": speed,
        "peers": speed,
        "memory": memory,
        "quality": Part("", rows, (), (curve,)),
    }
    files = plots.draw(table.write(tmp_path, MACHINE, True, parts), tmp_path)
    assert sorted(path.stem for path in files) == sorted(parts)
    assert all(path.stat().st_size > 1000 for path in files)
