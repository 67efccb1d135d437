"""The workflow with models that are no flows: a generator, and a network for one task."""

import json

import pandas as pd
import pytest
import yaml
from workflow_project import NOTHING, copy_of_the_project, planned, snakemake

from flowprior.experiment.layout import Layout
from flowprior.experiment.loading import load_experiment
from flowprior.experiment.parts import Training
from flowprior.experiment.pruning import stale_files
from flowprior.models import load

pytestmark = pytest.mark.slow

TRAINING = {"steps": 20, "batch": 16, "validate_every": 10, "learning_rate": 1e-3}
CHANGES = {
    "name": "models",
    "tasks": {
        "denoising": {"operator": "identity", "noise_std": 0.1, "as_image": True},
        "inpainting": {"operator": "center_mask"},
        "hole": {"operator": "center_mask", "settings": {"start": 0.45, "stop": 0.6}, "trained_as": "inpainting"},
    },
    "models": {
        "gan": {"model": "dcgan", "settings": {"latent": 8, "width": 4}, "training": TRAINING},
        "unet": {"model": "regressor", "settings": {"width": 4}, "training": TRAINING},
        "clean": {"model": "denoiser", "settings": {"width": 4}, "training": TRAINING},
        "folds": {
            "model": "unfolded",
            "begin": "clean",
            "settings": {"prox": "unet", "prox_settings": {"width": 4}, "folds": 2},
            "training": TRAINING,
        },
    },
    "methods": {
        "csgm": {"settings": {"steps": 5}, "tasks": ["inpainting"], "images": 3},
        "regressor": {"priors": ["unet"], "tasks": ["denoising", "inpainting"]},
        "unfolded": {"tasks": ["inpainting", "hole"]},
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project in which an experiment without flows has run."""
    project = copy_of_the_project(tmp_path_factory.mktemp("models"))
    settings = yaml.safe_load((project / "params" / "smoke.yaml").read_text())
    # What asks a flow, and images that nothing here is about.
    for part in ("priors", "studies", "test_sets"):
        settings.pop(part)
    (project / "params" / "models.yaml").write_text(yaml.safe_dump({**settings, **CHANGES}))
    snakemake(project, "--configfile", "params/models.yaml")
    return project


def test_everything_is_made_once(finished):
    assert NOTHING in snakemake(finished, "--configfile", "params/models.yaml", "-n")


def test_models_lie_where_the_layout_says(finished):
    experiment = load_experiment(finished / "params" / "models.yaml")
    layout = Layout(experiment, finished)
    trainings = experiment.trainings()
    assert trainings == (
        Training("clean"),
        Training("folds", "inpainting"),
        Training("gan"),
        Training("unet", "denoising"),
        Training("unet", "inpainting"),
    )
    for training, name in zip(trainings, ("denoiser", "unfolded", "dcgan", "regressor", "regressor"), strict=True):
        assert load(layout.trained(training, "weights").parent).name == name
        assert layout.trained(training, "history").read_text().count("\n") == 2
    assert layout.trained(trainings[4], "weights").parent == finished / "results/models/models/unet/inpainting"
    assert not list((finished / "results/models/flows").rglob("*.*"))
    assert not (finished / "results/models/training").exists() or not list(
        (finished / "results/models/training").rglob("*.safetensors")
    )


def test_each_method_solved_with_its_own_model(finished):
    rows = pd.read_parquet(finished / "results/models/rows.parquet")
    found = set(rows[["task", "method", "prior"]].itertuples(index=False, name=None))
    assert found == {
        ("inpainting", "csgm", "gan"),
        ("inpainting", "regressor", "unet"),
        ("denoising", "regressor", "unet"),
        ("inpainting", "unfolded", "folds"),
        ("hole", "unfolded", "folds"),
    }
    assert (rows["status"] == "ok").all()


def test_a_model_that_begins_with_another_is_made_again_with_it(finished):
    settings = yaml.safe_load((finished / "params" / "models.yaml").read_text())
    settings["models"]["clean"]["training"] = {**TRAINING, "steps": 30}
    (finished / "params" / "longer.yaml").write_text(yaml.safe_dump(settings))
    jobs = planned(snakemake(finished, "--configfile", "params/longer.yaml", "-n"))
    assert jobs["train_model"] == 1 and jobs["train_for_task"] == 1


def test_nothing_of_it_is_stale(finished):
    assert stale_files(load_experiment(finished / "params" / "models.yaml"), finished) == []


def test_what_is_left_is_recorded_and_hashed(finished):
    provenance = json.loads((finished / "results/models/provenance.json").read_text())
    assert set(provenance["flows"]) == {
        "gan",
        "unet for denoising",
        "unet for inpainting",
        "clean",
        "folds for inpainting",
    }
    assert all(entry["hash"] for entry in provenance["flows"].values())
    published = json.loads((finished / "results/models/published.json").read_text())
    assert {key for key in published["runs"] if "/training/" in key} == {
        "models/training/gan",
        "models/training/unet/denoising",
        "models/training/unet/inpainting",
        "models/training/clean",
        "models/training/folds/inpainting",
    }


def test_a_changed_task_trains_its_model_again_and_no_other(finished):
    settings = yaml.safe_load((finished / "params" / "models.yaml").read_text())
    settings["tasks"]["denoising"]["noise_std"] = 0.2
    (finished / "params" / "other.yaml").write_text(yaml.safe_dump(settings))
    jobs = planned(snakemake(finished, "--configfile", "params/other.yaml", "-n"))
    assert jobs["train_for_task"] == 1 and "train_model" not in jobs


def test_other_measurements_are_solved_by_models_that_are_there(finished):
    """A task more asks for measurements and solutions of its own, of models for another task, and for no training."""
    settings = yaml.safe_load((finished / "params" / "models.yaml").read_text())
    smaller = {"operator": "center_mask", "settings": {"start": 0.4}, "trained_as": "inpainting"}
    settings["tasks"]["smaller"] = smaller
    settings["methods"]["regressor"]["tasks"].append("smaller")
    (finished / "params" / "smaller.yaml").write_text(yaml.safe_dump(settings))
    jobs = planned(snakemake(finished, "--configfile", "params/smaller.yaml", "-n"))
    assert not [rule for rule in jobs if rule.startswith(("train", "fit", "prepare"))]
    assert jobs["measure"] == jobs["reconstruct"] == 2  # validation and test images
    settings["tasks"]["smaller"]["trained_as"] = None
    (finished / "params" / "smaller.yaml").write_text(yaml.safe_dump(settings))
    assert planned(snakemake(finished, "--configfile", "params/smaller.yaml", "-n"))["train_for_task"] == 1


def test_whose_models_solve_a_task_is_no_part_of_its_measurements(finished):
    settings = yaml.safe_load((finished / "params" / "models.yaml").read_text())
    settings["tasks"]["denoising"]["trained_as"] = "inpainting"
    (finished / "params" / "taken.yaml").write_text(yaml.safe_dump(settings))
    jobs = planned(snakemake(finished, "--configfile", "params/taken.yaml", "-n"))
    # Solved again, from other weights; everything that is made before stays as it is.
    assert jobs["reconstruct"] == 2 and not [rule for rule in jobs if rule.startswith(("train", "measure"))]
