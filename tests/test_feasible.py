"""What cannot work is said before anything is made."""

import copy

import numpy as np
import pytest
import yaml
from PIL import Image

from flowprior import cli
from flowprior.errors import FlowpriorError
from flowprior.experiment.feasible import check_feasible
from flowprior.experiment.loading import experiment_from

SETTINGS = {
    "name": "mine",
    "data": {"source": "photos", "resolution": 16, "train": 64, "validation": 2, "test": 4},
    "priors": {
        "p": {"flow": "haar_glow", "settings": {"levels": 2, "steps": 1, "hidden": 8}, "training": {"batch": 16}}
    },
    "tasks": {
        "denoising": {"operator": "identity", "noise_std": 0.1},
        "deblurring": {"operator": "box_blur", "settings": {"size": 3}},
        "inpainting": {"operator": "center_mask"},
    },
    "methods": {
        "map": {"sweep": {"noise_std": [0.05, 0.1]}},
        "linear_mmse": {},
        "bm3d": {"tasks": {"denoising": {}}},
    },
    "validation_images": 2,
    "test_images": 4,
}


def changed(place, value):
    settings = copy.deepcopy(SETTINGS)
    *path, last = place.split(".")
    inner = settings
    for key in path:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return settings


def test_what_can_work_passes():
    check_feasible(experiment_from(SETTINGS))


CANNOT = {
    "an even kernel": ("tasks.deblurring.settings", {"size": 4}, "task 'deblurring'.*size must be odd, got 4"),
    "a mask inside out": (
        "tasks.inpainting.settings",
        {"start": 0.8, "stop": 0.2},
        "task 'inpainting'.*start must not exceed stop",
    ),
    "a size no flow takes": ("data.resolution", 18, "prior 'p': flow 'haar_glow' with 2 levels needs"),
    "more levels than halvings": ("priors.p.settings.levels", 5, "prior 'p'.*divisible by 32"),
    "noise of 0 to 255": (
        "tasks.denoising.noise_std",
        25,
        r"on values in \[0, 1\], got 25; of 0 to 255.*0.098",
    ),
    "assumed noise of 0 to 255": ("methods.map.settings", {"samples_noise_std": 3}, r"values in \[0, 1\], got 3"),
    "a sweep over noise of 0 to 255": ("methods.map.sweep.noise_std", [0.1, 15], r"values in \[0, 1\], got 15"),
    "two equal points": ("methods.map.sweep.noise_std", [0.1, 0.2, 0.1], "task 'denoising' holds noise_std=0.1 twice"),
    "a sweep over nothing": ("methods.map.sweep.noise_std", [], "no values for 'noise_std'"),
    "infinite numbers": ("tasks.denoising.noise_std", float("inf"), "finite number"),
    "no numbers": ("priors.p.training.learning_rate", float("nan"), "finite number"),
    "braces in a path": ("data.path", "pictures/{a}", "holds '{', which Snakemake reads as a wildcard"),
    "an empty path": ("data.path", " ", "path is empty"),
    "more test images than prepared": ("test_images", 5, "test_images takes 5 test images, and data.test leaves 4 of"),
    "more validation images": ("validation_images", 3, "validation_images takes 3 validation images"),
    "more than there are": ("data.test", 10**6, "data.test is 1000000, and there are"),
    "a method on the wrong task": (
        "methods.bm3d.tasks",
        {"deblurring": {}},
        "method 'bm3d', task 'deblurring': bm3d denoises only",
    ),
    "a prior that cannot": (
        "methods.chavez.priors",
        ["gaussian"],
        "method 'chavez' needs a model that is Invertible, and 'gaussian'",
    ),
    "models of other measurements": (
        "tasks.colorization",
        {"operator": "channel_mean", "trained_as": "denoising"},
        r"'colorization' is trained_as 'denoising', but measures \(1, 16, 16\) and 'denoising' \(3, 16, 16\)",
    ),
    "a kernel larger than a setting may be": ("tasks.deblurring.settings.size", -3, "task 'deblurring'"),
}


@pytest.mark.parametrize(("place", "value", "message"), CANNOT.values(), ids=CANNOT)
def test_what_cannot_work_is_said_in_one_line(place, value, message):
    with pytest.raises(FlowpriorError, match=message) as caught:
        check_feasible(experiment_from(changed(place, value)))
    assert "\n" not in str(caught.value)


def test_images_of_a_folder_are_counted(tmp_path):
    for split, count in (("train", 20), ("val", 3), ("test", 3)):
        (tmp_path / "set" / split).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((20, 20, 3), i, np.uint8)).save(tmp_path / "set" / split / f"{i}.png")
    data = {"source": "folder", "path": str(tmp_path / "set"), "resolution": 16}
    fits = {**SETTINGS, "data": data, "test_images": 3}
    check_feasible(experiment_from(fits))
    with pytest.raises(FlowpriorError, match="test_images takes 4 test images, and there are 3"):
        check_feasible(experiment_from({**fits, "test_images": 4}))
    with pytest.raises(FlowpriorError, match="no images at"):
        check_feasible(experiment_from({**fits, "data": {**data, "path": str(tmp_path / "none")}}))


def test_a_home_folder_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert experiment_from(changed("data.path", "~/pictures")).data.path == "/somewhere/pictures"


def test_the_command_says_it_and_exits_with_2(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(changed("data.resolution", 18)))
    cli.app(["check", "--quick", str(path)], standalone_mode=False)
    with pytest.raises(FlowpriorError, match="prior 'p'"):
        cli.app(["check", str(path)], standalone_mode=False)
