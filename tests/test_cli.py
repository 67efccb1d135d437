"""The command line, as a person with one picture meets it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from report_fixture import fabricate, tiny_experiment

from flowprior import models, operators, solvers
from flowprior.cli import main
from flowprior.errors import FlowpriorError
from flowprior.experiment import restoring
from flowprior.experiment.params import Experiment
from flowprior.experiment.schema import generate_index, generate_schema
from flowprior.images.decode import open_rgb
from flowprior.models import flows
from flowprior.models.flows.checkpoint import save_flow
from flowprior.operators.task import TaskSettings

ROOT = Path(__file__).parents[1]
SIDE = 8


@pytest.fixture
def flowprior(monkeypatch, capsys):
    """Run the program; its output, after a look at the exit status."""

    def run(*arguments: object, status: int = 0) -> tuple[str, str]:
        monkeypatch.setattr("sys.argv", ["flowprior", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stop:
            main()
        assert (stop.value.code or 0) == status
        return capsys.readouterr()

    return run


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    flow = flows.build("haar_glow", shape=(3, SIDE, SIDE), levels=2, steps=1, hidden=4)
    save_flow(tmp_path / "flow", flow, {})
    return tmp_path / "flow"


@pytest.fixture
def picture(tmp_path):
    y, x = np.mgrid[0:19, 0:13]
    pixels = np.stack([10 * y, 15 * x, 100 + 0 * x], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_list_names_everything_that_is_registered(flowprior):
    out, _ = flowprior("list")
    for name in (*models.TRAINED.names(), *operators.names(), *solvers.names()):
        assert name in out
    assert "noise_std" in out


def test_check_refuses_a_copy_that_would_replace_the_results_of_another(flowprior, tmp_path):
    text = (ROOT / "params" / "smoke.yaml").read_text()
    (tmp_path / "smoke.yaml").write_text(text)
    (tmp_path / "mine.yaml").write_text(text)
    _, err = flowprior("check", tmp_path / "mine.yaml", status=2)
    assert "set its own: name: mine" in err
    (tmp_path / "mine.yaml").write_text(text.replace("name: smoke", "name: mine"))
    flowprior("check", tmp_path / "mine.yaml")


def test_check_says_which_model_no_method_asks(flowprior, tmp_path):
    text = (ROOT / "params/smoke.yaml").read_text().replace("priors:\n", "priors:\n  unet: {model: regressor}\n", 1)
    path = tmp_path / "smoke.yaml"
    path.write_text(text)
    _, said = flowprior("check", "--quick", path)
    assert "model 'unet' learns a task and no method asks it" in said


def test_check_says_what_would_run(flowprior):
    out, _ = flowprior("check", ROOT / "params" / "smoke.yaml")
    assert "1 models, 4 tasks, 6 methods" in out


def test_schema_writes_both_schemas(flowprior, tmp_path, monkeypatch):
    (tmp_path / "workflow" / "schemas").mkdir(parents=True)
    monkeypatch.setattr("flowprior.experiment.pieces.PIECES", tmp_path / "pieces.json")
    flowprior("schema", "--root", tmp_path)
    written = json.loads((tmp_path / "workflow/schemas/experiment.schema.json").read_text())
    assert written == generate_schema()
    assert json.loads((tmp_path / "pieces.json").read_text()) == generate_index()


def test_show_prints_the_summary(flowprior, tmp_path):
    fabricate(tmp_path, tiny_experiment())
    out, _ = flowprior("show", tmp_path / "results" / "tiny")
    assert "linear_mmse" in out
    assert "oracle" not in out
    out, _ = flowprior("show", tmp_path / "results" / "tiny", "--selected-by", "all")
    assert "oracle" in out


@pytest.fixture
def to_out_png(checkpoint, tmp_path):
    """The options that every restoration in these tests takes."""
    return ("--checkpoint", checkpoint, "--params", ROOT / "params/smoke.yaml", "--out", tmp_path / "out.png")


def test_restore_writes_a_picture_of_the_same_size(flowprior, to_out_png, picture, tmp_path):
    out, _ = flowprior("restore", picture, *to_out_png, "--set", "noise_std=0.1", "--set", "steps=2")
    assert "noise_std=0.1" in out
    with Image.open(tmp_path / "out.png") as restored:
        assert restored.size == (13, 19)


@pytest.mark.parametrize("kind", ["grey of 16 bits", "sideways", "transparent"])
def test_a_picture_is_restored_from_the_pixels_that_preparing_sees(kind, tmp_path, monkeypatch):
    values = np.arange(8 * 12 * 4, dtype=np.uint8).reshape(8, 12, 4)
    path, exif = tmp_path / "a.png", Image.Exif()
    if kind == "grey of 16 bits":
        Image.fromarray(values[..., 0].astype(np.uint16) * 257).save(path)
    elif kind == "sideways":
        exif[274] = 6
        Image.fromarray(values[..., :3]).save(path, exif=exif)
    else:
        Image.fromarray(values).save(path)
    seen = []
    monkeypatch.setattr(restoring, "restore", lambda picture, *_: (seen.append(picture) or picture, 1, 0))
    flow = flows.build("haar_glow", shape=(3, SIDE, SIDE), levels=2, steps=1, hidden=4)
    restoring.restore_file(path, tmp_path / "out.png", flow, TaskSettings(operator="identity"), "map", {})
    with path.open("rb") as file:
        expected = np.asarray(open_rgb(file))
    assert np.array_equal((seen[0] * 255).round().byte().permute(1, 2, 0).numpy(), expected)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), expected)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("a.pcd", "unknown picture format"),  # pillow reads it and does not write it
        ("folder.png", "is a folder"),
        ("file/a.png", "is a file"),
        ("folder.png/a.png", "may not be written to"),
    ],
)
def test_where_no_picture_can_be_written(flowprior, checkpoint, picture, tmp_path, monkeypatch, out, said):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    if "written" in said:
        monkeypatch.setattr("os.access", lambda path, mode, **_: mode == os.R_OK)
    usual = ["--checkpoint", checkpoint, "--params", ROOT / "params/smoke.yaml", "--out", tmp_path / out]
    _, err = flowprior("restore", picture, *usual, status=2)
    assert said in err
    assert err.count("\n") == 1


def test_tiles_leave_no_seams():
    """A solver that returns its measurement gives the picture back, wherever tiles overlap."""
    flow = flows.build("haar_glow", shape=(3, SIDE, SIDE), levels=2, steps=1, hidden=4)
    picture = torch.rand(3, 19, 13, generator=torch.Generator().manual_seed(0))
    settings = {"steps": 1, "learning_rate": 1e-9, "start": "measurement"}
    restored, tiles, diverged = restoring.restore(picture, flow, TaskSettings(operator="identity"), "map", settings)
    assert tiles == 4 * 3
    assert diverged == 0
    torch.testing.assert_close(restored, picture, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "denoisin"], "unknown task 'denoisin'; did you mean 'denoising'?"),
        (["--method", "maap"], "did you mean 'map'?"),
        (["--method", "linear_mmse"], "uses no flow"),
        (["--method", "csgm"], "no settings for task 'denoising'"),
        (["--set", "noise_sdt=1"], "did you mean 'noise_std'?"),
        (["--set", "noise_std"], "name=value"),
        (["--set", "noise_std=-1"], "noise_std"),
        (["--task", "inpainting", "--method", "glowip"], "cannot be tiled"),
        (["--checkpoint", "nowhere"], "no checkpoint in nowhere"),
        (["--checkpoint", ROOT / "README.md"], "no checkpoint in"),
        (["--params", "nowhere.yaml"], "no experiment file at nowhere.yaml"),
        (["--out", "out.xyz"], "unknown picture format"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    flowprior, checkpoint, picture, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    usual = ["--checkpoint", checkpoint, "--params", ROOT / "params/smoke.yaml", "--out", "out.png"]
    _, err = flowprior("restore", picture, *usual, *arguments, status=2)
    assert said in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("size", [(13, 19), (SIDE, SIDE)])
def test_what_was_measured_without_a_picture_cannot_be_restored_from_one(size):
    flow = flows.build("haar_glow", shape=(3, SIDE, SIDE), levels=2, steps=1, hidden=4)
    task = TaskSettings(operator="gaussian_sensing", settings={"measurements": 20})
    with pytest.raises(FlowpriorError, match=r"'gaussian_sensing' measures \(20,\) of a tile, which is no picture"):
        restoring.restore(torch.rand(3, *size), flow, task, "map", {"steps": 1})


@pytest.mark.parametrize("content", [None, b"no picture", b"\x89PNG\r\n\x1a\n cut"])
def test_pictures_that_cannot_be_read(flowprior, to_out_png, tmp_path, content):
    picture = tmp_path / "broken.png"
    if content is not None:
        picture.write_bytes(content)
    _, err = flowprior("restore", picture, *to_out_png, status=2)
    assert "broken.png" in err
    assert err.count("\n") == 1


def test_a_picture_smaller_than_the_flows(flowprior, to_out_png, tmp_path):
    Image.new("RGB", (SIDE - 1, SIDE)).save(tmp_path / "small.png")
    _, err = flowprior("restore", tmp_path / "small.png", *to_out_png, status=2)
    assert "8x7, smaller than the flow's 8x8" in err


@pytest.mark.parametrize(
    "arguments",
    [["show", "nowhere"], ["verify", "nowhere"], ["check", "nowhere.yaml"], ["schema", "--root", "nowhere"]],
)
def test_places_that_are_not_there(flowprior, arguments):
    _, err = flowprior(*arguments, status=2)
    assert "nowhere" in err
    assert err.count("\n") == 1


def test_restore_takes_what_validation_images_chose(tmp_path):
    experiment = Experiment(
        name="mine",
        priors={"p": {"flow": "haar_glow"}},
        tasks={"denoising": {"operator": "identity"}},
        methods={"map": {"sweep": {"noise_std": [0.05, 0.1, 0.2]}}},
    )
    folder = tmp_path / "mine" / "flows" / "p"
    folder.mkdir(parents=True)

    def asked(given=None, experiment=experiment):
        return restoring.settings_for(experiment, "denoising", "map", given or {}, folder)

    assert asked().settings["noise_std"] == 0.05
    assert "the first was taken: noise_std=0.05" in asked().note
    lines = [
        ("validation", "noise_std=0.1", "p"),
        ("oracle", "noise_std=0.2", "p"),
        ("validation", "noise_std=0.05", "q"),
    ]
    table = "".join(f"denoising,map,{prior},{by},{setting}\n" for by, setting, prior in lines)
    (tmp_path / "mine" / "summary.csv").write_text("task,method,prior,selected_by,setting\n" + table)
    assert asked() == ({"noise_std": 0.1}, "")
    assert asked({"noise_std": 0.3}).settings["noise_std"] == 0.3
    assert asked(experiment=experiment.model_copy(update={"name": "other"})).settings["noise_std"] == 0.05


def test_tiles_of_all_batches_share_what_is_derived_from_the_flow(monkeypatch):
    flow = flows.build("haar_glow", (3, 8, 8), levels=2, steps=1, hidden=4).eval()
    seen = []
    plain = restoring.solvers.solve
    monkeypatch.setattr(
        restoring.solvers, "solve", lambda *a, **k: seen.append((k["memory"], len(a[2]))) or plain(*a, **k)
    )
    task = TaskSettings(operator="identity", noise_std=0.1)
    picture = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(1))
    settings = {"noise_std": 0.1, "steps": 2, "samples": 64}
    restored, tiles, _ = restoring.restore(picture, flow, task, "map", settings, 3)
    assert len({id(memory) for memory, _ in seen}) == 1 and len(seen) > 1
    seen.clear()
    at_once, _, _ = restoring.restore(picture, flow, task, "map", settings)
    assert [count for _, count in seen] == [tiles]
    torch.testing.assert_close(restored, at_once, rtol=0, atol=5e-3)


@pytest.mark.parametrize("ending", [".psd", ".xbm", ".h5", ".fits", ".xyz", ""])
def test_a_picture_that_can_not_be_written_is_said_before_it_is_solved(ending, tmp_path):
    with pytest.raises(FlowpriorError, match=r"use \.png"):
        restoring._check_output(tmp_path / f"out{ending}")
    for good in (".png", ".jpg", ".tif", ".webp", ".bmp"):
        restoring._check_output(tmp_path / f"out{good}")
