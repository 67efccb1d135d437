"""Other test images: what an experiment may say of them, which jobs they make, and where their means stand."""

import numpy as np
import pandas as pd
import pytest
from report_fixture import fabricate, tiny_experiment

from flowprior.errors import FlowpriorError
from flowprior.evaluation import evaluate
from flowprior.experiment.feasible import check_counts
from flowprior.experiment.layout import Layout
from flowprior.experiment.loading import experiment_from
from flowprior.experiment.plan import jobs
from flowprior.images import load, prepare
from flowprior.images.settings import DataSettings
from flowprior.report import build


def asked(**sets):
    return experiment_from(
        {
            "name": "x",
            "data": {"source": "photos", "resolution": 16},
            "priors": {"tiny": {"flow": "haar_glow"}},
            "tasks": {"denoising": {"operator": "identity", "noise_std": 0.1}},
            "methods": {"map": {}, "slow": {"solver": "chavez", "images": 2}},
            "validation_images": 3,
            "test_images": 5,
            "test_sets": sets,
        }
    )


def test_every_method_solves_every_set():
    found = asked(faces={"source": "folder", "path": "/faces"}, few={"source": "celeba", "test": 4})
    splits = {name: [job.split for job in jobs(found) if job.method == name] for name in found.methods}
    assert splits == {"map": ["validation", "test", "faces", "few"], "slow": ["test", "faces", "few"]}
    assert [found.measured_images(split) for split in found.solved_splits] == [3, 5, 5, 4]
    assert [found.images_of("slow", split) for split in found.solved_splits] == [3, 2, 2, 2]
    assert [found.dataset_of(split) for split in found.solved_splits] == [
        *("photos-16px", "photos-16px"),
        *("faces-16px", "few-16px"),
    ]
    assert found.test_sets["faces"].splits == "test" and found.test_sets["faces"].resolution == 16
    assert experiment_from(found.model_dump(mode="json")) == found


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"test": {"source": "celeba"}}, "named as a split"),
        ({"faces": {"source": "celeba", "resolution": 64}}, "leave its resolution out"),
        ({"same": {"source": "photos"}}, "the experiment's own images"),
    ],
)
def test_a_set_that_cannot_be_is_refused(sets, message):
    with pytest.raises(FlowpriorError, match=message):
        asked(**sets)


def test_its_images_lie_apart_and_are_all_of_a_folders(tmp_path):
    from PIL import Image

    for i in range(7):
        Image.fromarray(np.full((20, 20, 3), 20 * i, np.uint8)).save(tmp_path / f"{i}.png")
    found = asked(faces={"source": "folder", "path": str(tmp_path)})
    layout = Layout(found, tmp_path)
    images, manifest = layout.images("faces")
    assert images.parent.name != layout.prepared("test").parent.name
    prepare(found.data_of("faces"), images.parent, ["test"])
    assert sorted(path.name for path in images.parent.iterdir()) == ["manifest.json", "test.npy"]
    assert load(images, manifest).names == tuple(f"{i}.png" for i in range(7))


def test_too_few_images_of_a_set_are_said_before_any_job(tmp_path):
    from PIL import Image

    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(FlowpriorError, match=r"5 test images of test_sets\.faces, and there are 1"):
        check_counts(asked(faces={"source": "folder", "path": str(tmp_path)}))


@pytest.mark.parametrize("inside", ["", "train", "val"])
def test_a_set_of_what_is_trained_on_is_refused(tmp_path, inside):
    """By its path or by that of a folder above it."""
    from PIL import Image

    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
        for i in range(6):
            Image.new("RGB", (20, 20)).save(tmp_path / split / f"{i}.png")
    own = {"source": "folder", "path": str(tmp_path), "resolution": 16}

    def having(path):
        found = asked(other={"source": "folder", "path": str(path)})
        return found.model_copy(update={"data": DataSettings(**own)})

    with pytest.raises(FlowpriorError, match=r"test set 'other' holds \d+ images that data.path trains or selects on"):
        check_counts(having(tmp_path / inside))
    check_counts(having(tmp_path / "test"))


def test_a_folder_whose_images_are_all_for_testing_cannot_be_trained_on(tmp_path):
    from PIL import Image

    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    data = DataSettings(source="folder", path=str(tmp_path), splits="test", resolution=16)
    with pytest.raises(FlowpriorError, match="no train images"):
        prepare(data, tmp_path / "out")


@pytest.fixture(scope="module")
def with_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    found = tiny_experiment(test_sets={"reduced": {"source": "photos", "test": 5}})
    fabricate(root, found)
    return root, found


def test_settings_are_chosen_without_it_and_its_means_stand_apart(with_set):
    root, found = with_set
    layout = Layout(found, root)
    rows = pd.read_parquet(layout.evaluated("rows"))
    without = evaluate(rows[rows["split"].isin(["validation", "test"])], found.seed)
    whole = evaluate(rows, found.seed)
    pd.testing.assert_frame_equal(whole.summary, without.summary)
    pd.testing.assert_frame_equal(whole.paired, without.paired)
    lines = whole.sets[whole.sets["set"] == "reduced"]
    assert len(lines) == (whole.summary["selected_by"] == "validation").sum() and (lines["n"] == 5).all()
    one = lines.iloc[0]
    own = rows[(rows["split"] == "reduced") & (rows["setting"] == one["setting"])]
    own = own[(own["task"] == one["task"]) & (own["method"] == one["method"]) & (own["prior"] == one["prior"])]
    assert one["psnr"] == pytest.approx(own["psnr"].mean()) and one["psnr_low"] <= one["psnr"] <= one["psnr_high"]


def test_the_page_has_a_column_for_each(with_set):
    root, found = with_set
    build(found, root)
    page = Layout(found, root).page.read_text()
    section = page.partition('<section id="sets">')[2].partition("</section>")[0]
    assert "reduced" in section and section.count('class="best"') + section.count(" best") >= len(found.tasks)
    assert 'href="#sets"' in page
