"""Images are found wherever they lie, and official test images are never trained on without a word."""

import os

import numpy as np
import pytest
from image_archives import encoded, zipped
from PIL import Image

from flowprior import images
from flowprior.errors import FlowpriorError
from flowprior.images.finding import below, split_named_by
from flowprior.images.folder import Folder
from flowprior.images.settings import SPLITS, DataSettings


def settings(path, **others):
    return DataSettings(source="folder", path=str(path), **{"resolution": 16, **others})


def put(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number, (20, 24), "PNG"))
    return folder


LAYOUTS = {
    "two levels down": ("data/images/train/1.png", "data/images/val/2.png", "data/images/test/3.png"),
    "below classes": ("cat/train/1.png", "dog/val/2.png", "cat/test/3.png"),
    "above classes": ("train/cat/1.png", "val/dog/2.png", "test/cat/3.png"),
    "DIV2K": ("DIV2K_train_HR/1.png", "DIV2K_valid_HR/2.png", "DIV2K_test_HR/3.png"),
    "COCO": ("train2017/1.png", "val2017/2.png", "test2017/3.png"),
    "words": ("Training/1.png", "dev/2.png", "Testing/3.png"),
    "joined": ("trainSet/1.png", "my-validation/2.png", "TEST_images/3.png"),
    "around them a word too": ("training-data/train/1.png", "training-data/val/2.png", "training-data/test/3.png"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("names", LAYOUTS.values(), ids=LAYOUTS)
def test_splits_are_found_at_any_depth_and_however_they_are_called(names, packed, tmp_path):
    raw = put(tmp_path / "raw", *names)
    with Folder(settings(zipped(raw, tmp_path / "a.zip") if packed else raw)) as source:
        found = source.splits()
        assert [[name.rpartition("/")[2] for name in found[split]] for split in SPLITS] == [
            ["1.png"],
            ["2.png"],
            ["3.png"],
        ]
        assert source.found()["splits"] == "by folder"


def test_backslashes_of_an_archive_are_folders(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number, name in enumerate(("set\\train\\a.png", "set\\val\\b.png", "set\\test\\c.png")):
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, encoded(number, (20, 24), "PNG"))
    manifest = images.prepare(settings(tmp_path / "a.zip"), tmp_path / "out")
    assert {split: facts["names"] for split, facts in manifest["splits"].items()} == {
        "train": ["set/train/a.png"],
        "validation": ["set/val/b.png"],
        "test": ["set/test/c.png"],
    }


@pytest.mark.parametrize("name", ["contest", "trains", "latest", "restraint", "value", "12", "tests"])
def test_words_inside_others_name_no_split(name):
    assert split_named_by(name) is None


def test_what_looks_like_a_split_and_is_none_is_said_with_the_way_out(tmp_path):
    raw = put(tmp_path / "raw", "cat/1.png", "dog/2.png", "test/3.png")
    with pytest.raises(FlowpriorError, match=r"2 images lie outside of them \(cat/1.png.*data\.splits: hash"):
        Folder(settings(raw)).splits()
    assert sum(map(len, Folder(settings(raw, splits="hash")).splits().values())) == 3
    twice = put(tmp_path / "twice", "train/test/1.png", "test/2.png", "val/3.png")
    with pytest.raises(FlowpriorError, match=r"train/test/1.png name two splits, test and train; rename the folder"):
        Folder(settings(twice)).splits()


def test_links_are_followed_once_each(tmp_path):
    raw, other = put(tmp_path / "raw", "a/1.png"), put(tmp_path / "other", "2.png", "deep/3.png")
    (raw / "b").symlink_to(other)
    (raw / "b_again").symlink_to(other)
    (other / "round").symlink_to(raw)
    (raw / "4.png").symlink_to(other / "2.png")
    (raw / "nowhere.png").symlink_to(tmp_path / "nothing")
    found = below(raw)
    assert sorted(found.images) == ["4.png", "a/1.png", "b/2.png", "b/deep/3.png"]
    assert found.closed == ["nowhere.png"]


def test_folders_that_may_not_be_read_are_named(tmp_path, monkeypatch):
    raw = put(tmp_path / "raw", "a/1.png", "b/2.png")
    plain = os.scandir

    def refusing(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "no", str(path))
        return plain(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert below(raw).closed == ["b"]


def test_everything_that_lies_there_is_counted_and_kept_in_the_manifest(tmp_path, capfd):
    raw = put(tmp_path / "raw", "train/1.png", "train/2.JPG", "train/3.jfif", "val/4.ppm", "test/5.gif")
    for name in ("train/a.HEIC", "train/b.heic", "val/c.cr2", "notes.txt", "noending", ".hidden.png", "._x.png"):
        (raw / name).write_bytes(b"\0")
    found = images.prepare(settings(raw), tmp_path / "out")["found"]
    assert found["endings"] == {".gif": 1, ".jfif": 1, ".jpg": 1, ".png": 1, ".ppm": 1}
    assert found["ignored"] == {"(no ending)": 1, ".cr2": 1, ".heic": 2, ".txt": 1}
    said = capfd.readouterr().err
    assert "found 5 images" in said and "2 .heic" in said and "splits by folder" in said


def test_a_picture_in_two_splits_is_said(tmp_path, capfd):
    raw = put(tmp_path / "raw", "train/1.png", "val/2.png", "test/3.png")
    (raw / "test" / "same.png").write_bytes((raw / "train" / "1.png").read_bytes())
    for place in (raw, zipped(raw, tmp_path / "a.zip")):
        found = images.prepare(settings(place), tmp_path / "out")["found"]
        assert [[name.rpartition("/")[2] for name in pair] for pair in found["in_two_splits"]] == [
            ["1.png", "same.png"]
        ]
        assert "1 pictures stand in two splits, byte by byte" in capfd.readouterr().err


def test_a_name_that_is_no_text_is_said_and_left_out(tmp_path):
    raw = put(tmp_path / "raw", "1.png")
    (raw / "1.png").rename(raw / os.fsdecode(b"caf\xe9.png"))
    found = below(raw)
    assert not found.images and "rename it" in found.closed[0]


class TestListing:
    def test_follows_every_file_below(self, tmp_path):
        raw = put(tmp_path / "raw", "a/1.png", "b/2.png")
        seen = [images.listing_of(settings(raw))]
        assert images.listing_of(settings(raw)) == seen[0]
        put(raw, "b/3.png")
        seen.append(images.listing_of(settings(raw)))
        (raw / "b/3.png").write_bytes(b"other")
        seen.append(images.listing_of(settings(raw)))
        os.utime(raw / "a/1.png", (1, 1))
        seen.append(images.listing_of(settings(raw)))
        (raw / "a/1.png").rename(raw / "a/4.png")
        seen.append(images.listing_of(settings(raw)))
        (raw / "a/4.png").unlink()
        seen.append(images.listing_of(settings(raw)))
        assert len(set(seen)) == len(seen)

    def test_of_an_archive_its_own_time_says_it(self, tmp_path):
        raw = zipped(put(tmp_path / "raw", "a/1.png"), tmp_path / "a.zip")
        assert images.listing_of(settings(raw)) is None


def test_settings_that_say_nothing_new_keep_the_name_of_what_was_prepared():
    plain = DataSettings(source="folder", path="x")
    assert plain.key == DataSettings(source="folder", path="x", splits="folders", white=None).key
    assert plain.key != DataSettings(source="folder", path="x", splits="hash").key
    assert plain.key != DataSettings(source="folder", path="x", white=4095).key


def test_prepared_pixels_are_those_of_the_one_decoder(tmp_path):
    raw = put(tmp_path / "raw", "train/1.png", "val/2.png")
    ramp = (np.tile(np.linspace(0, 65535, 16), (16, 1))).astype(np.uint16)
    (raw / "test").mkdir()
    Image.fromarray(ramp).save(raw / "test" / "deep.png")
    images.prepare(settings(raw), tmp_path / "out")
    stored = np.load(tmp_path / "out" / "test.npy")[0]
    assert np.array_equal(stored, images.decode.picture(raw / "test" / "deep.png"))
    assert stored[0, 0, 0] == 0 and stored[0, -1, 0] == 255
