"""What holds for every registered source of images."""

import errno
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from image_archives import encoded, files_below, write_celeba, write_folder

from flowprior import images
from flowprior.errors import FlowpriorError, UnknownNameError
from flowprior.images import store
from flowprior.images.settings import SPLITS, DataSettings


@pytest.fixture(params=images.names())
def data(request, tmp_path, monkeypatch):
    """Settings of a small data set of each source, its raw files present."""
    monkeypatch.chdir(tmp_path)
    if request.param == "celeba":
        write_celeba(tmp_path / "data/celeba")
    if request.param == "folder":
        write_folder(tmp_path / "data/folder")
    settings = DataSettings(source=request.param, resolution=16, train=40, validation=3, test=4)
    images.fetch(settings)
    return settings


def test_the_same_files_and_settings_give_the_same_bytes(data, tmp_path):
    np.random.seed(1)
    images.prepare(data, tmp_path / "first")
    np.random.seed(2)
    images.prepare(data, tmp_path / "second")
    first, second = files_below(tmp_path / "first"), files_below(tmp_path / "second")
    assert first == second
    assert set(first) == {"train.npy", "validation.npy", "test.npy", "manifest.json"}


def test_manifest_tells_what_is_stored(data, tmp_path):
    manifest = images.prepare(data, tmp_path / "out")
    assert manifest == json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["source"], manifest["key"]) == (data.source, data.key)
    assert manifest["settings"]["resolution"] == 16
    assert manifest["checksums"]
    assert all(value.startswith("sha256:") for value in manifest["checksums"].values())
    for split in SPLITS:
        content = (tmp_path / f"out/{split}.npy").read_bytes()
        array, facts = np.load(tmp_path / f"out/{split}.npy"), manifest["splits"][split]
        assert array.dtype == np.uint8
        assert list(array.shape) == facts["shape"] == [facts["count"], 16, 16, 3]
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()
        assert len(facts["names"]) == facts["count"] > 0
        assert facts["unreadable"] == []


def test_no_image_stands_in_two_splits_and_limits_take_the_first(data, tmp_path):
    few = images.prepare(data, tmp_path / "few")["splits"]
    more = data.model_copy(update={"train": 50, "validation": None, "test": None})
    many = images.prepare(more, tmp_path / "many")["splits"]
    names = [name for split in SPLITS for name in many[split]["names"]]
    assert len(names) == len(set(names))
    for split in SPLITS:
        limit = getattr(data, split)
        assert few[split]["names"] == many[split]["names"][:limit]
        arrays = [np.load(tmp_path / place / f"{split}.npy") for place in ("few", "many")]
        assert np.array_equal(arrays[0], arrays[1][:limit])


def test_stored_rows_are_the_named_images(data, tmp_path):
    images.prepare(data, tmp_path / "out")
    loaded = images.load(tmp_path / "out/test.npy", tmp_path / "out/manifest.json", count=2)
    assert len(loaded) == 2
    with images.source_of(data) as source:
        for name, pixels in zip(loaded.names, loaded.pixels, strict=True):
            assert np.array_equal(source.pixels(name), pixels)


def test_a_full_disk_leaves_what_was_there(data, tmp_path, monkeypatch):
    images.prepare(data, tmp_path / "prepared/out")
    before = files_below(tmp_path)
    written = []

    def append(self, pixels):
        written.append(pixels)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.NpyWriter, "append", append)
    with pytest.raises(OSError, match="No space"):
        images.prepare(data, tmp_path / "prepared/out")
    assert files_below(tmp_path) == before
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == ["out"]


def test_what_a_killed_run_left_is_removed(data, tmp_path):
    (tmp_path / "prepared/.out.partial").mkdir(parents=True)
    (tmp_path / "prepared/.out.partial/train.npy").write_bytes(b"half")
    images.prepare(data, tmp_path / "prepared/out")
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == ["out"]


def test_missing_raw_files_are_named(data, tmp_path):
    missing = data.model_copy(update={"path": str(tmp_path / "nowhere")})
    with pytest.raises(FlowpriorError, match=r"nowhere.*data\.path"):
        images.prepare(missing, tmp_path / "prepared/out")
    with pytest.raises(FlowpriorError, match=r"nowhere.*data\.path"):
        images.fetch(missing)
    assert not (tmp_path / "nowhere").exists()
    assert not list((tmp_path / "prepared").iterdir())


def test_unknown_source_names_the_nearest():
    with pytest.raises(UnknownNameError, match="image source 'celebA'; did you mean 'celeba'"):
        images.raw_files(DataSettings(source="celebA"))


def test_limits_and_resolution_fetch_nothing_again():
    data = DataSettings(source="celeba", url="https://example.org/img_align_celeba.zip")
    other = data.model_copy(update={"resolution": 64, "train": 5})
    assert images.raw_settings(data) == images.raw_settings(other)
    assert images.raw_settings(data) != images.raw_settings(data.model_copy(update={"url": None}))


def test_raw_files_are_named_without_torch_or_scikit_image():
    code = (
        "import sys; from flowprior import images; from flowprior.images.settings import DataSettings\n"
        "for name in images.names(): assert images.raw_files(DataSettings(source=name))\n"
        "assert not {'torch', 'skimage', 'scipy', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("source", ["celeba", "folder"])
def test_a_split_without_images_is_an_error(source, tmp_path):
    if source == "celeba":
        write_celeba(tmp_path / "raw", counts=(4, 0, 2))
    else:
        for split in ("train", "test"):
            (tmp_path / "raw" / split).mkdir(parents=True)
            (tmp_path / "raw" / split / "a.png").write_bytes(encoded(1, kind="PNG"))
    data = DataSettings(source=source, path=str(tmp_path / "raw"), resolution=8)
    with pytest.raises(FlowpriorError, match="no validation images"):
        images.prepare(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
