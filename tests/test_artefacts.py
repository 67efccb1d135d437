"""What a job leaves is declared once: rules, DVC and the other readers of files agree with the declaration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from report_fixture import tiny_experiment

from flowprior.evaluation.plots import Plots
from flowprior.experiment.artefacts import LEAVES, folders, results_of_stage
from flowprior.experiment.layout import Layout, report_files
from flowprior.experiment.params import Experiment
from flowprior.experiment.pruning import expected_files
from flowprior.provenance.collected import result_files

ROOT = Path(__file__).resolve().parents[1]
RULES = "\n".join(path.read_text() for path in sorted((ROOT / "workflow").rglob("*.smk")))


def names_of(outs: list[str | dict[str, object]]) -> set[str]:
    found = {entry if isinstance(entry, str) else next(iter(entry)) for entry in outs}
    return {name.removeprefix("results/${experiment}/") for name in found if name.startswith("results/")}


@pytest.mark.parametrize("stage", sorted({leaves.stage for leaves in LEAVES.values() if leaves.stage}))
def test_dvc_records_what_the_rules_of_a_stage_leave(stage: str) -> None:
    described = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    assert names_of([*described.get("outs", []), *described.get("metrics", [])]) == set(results_of_stage(stage))


@pytest.mark.parametrize("rule", LEAVES)
def test_a_rule_takes_its_outputs_from_the_declaration(rule: str) -> None:
    (body,) = re.findall(rf"^(?:use rule \w+ as |\s*rule ){rule}(?: with)?:\n(.*?)(?=^\S|\Z)", RULES, re.M | re.S)
    output = body.split("    output:")[1].split("    log:")[0]
    assert re.search(rf'\*\*left_by\(\s*"{rule}"', output)
    assert "{RESULTS}" not in output or rule == "report"  # whose figures and tables depend on the experiment


def test_no_file_of_a_job_is_named_elsewhere() -> None:
    named = {file for leaves in LEAVES.values() for file in leaves.files.values() if "{" not in file and "." in file}
    literal = re.compile("|".join(re.escape(f'{quote}{name}"') for name in sorted(named) for quote in ('"', "/", ".")))
    places = [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk"), *(ROOT / "workflow").rglob("*.py")]
    allowed = {"artefacts.py", "files.py"}
    found = {
        path.name: literal.findall(re.sub(r">>>.*", "", path.read_text()))
        for path in places
        if path.name not in allowed
    }
    # MLflow's artifact of a run's own settings is no file of a job.
    assert {name: hits for name, hits in found.items() if set(hits) - {'"settings.yaml"'}} == {}


def test_every_reader_sees_the_same_files() -> None:
    experiment = tiny_experiment()
    layout = Layout(experiment)
    expected = expected_files(experiment)
    left = {path for step in layout.steps() for path in layout.all_left(step)}
    assert left | {Path(path) for path in report_files(experiment)} <= expected
    assert {path for path in result_files(layout) if path.suffix not in (".csv", ".tex")} <= left
    assert {path.parts[2] for path in left if len(path.parts) > 3} <= set(folders())
    assert {name for name in LEAVES["evaluate"].files if name.startswith("plot_")} == {
        f"plot_{field}" for field in Plots._fields
    }


def test_a_setting_lies_where_its_chunk_says() -> None:
    experiment = Experiment(
        name="x",
        priors={"p": {"flow": "glow"}},
        tasks={"t": {"operator": "identity"}},
        methods={"map": {"sweep": {"noise_std": [0.1, 0.2, 0.3, 0.4, 0.5]}}},
        chunk=2,
    )
    for number, points in enumerate(experiment.chunks("map", "t")):
        for place, point in enumerate(points):
            assert experiment.place_of("map", "t", point.label) == (number, place)
    assert experiment.place_of("map", "t", "no such") is None
