"""Any folder or archive of images."""

import os

import numpy as np
import pytest
from image_archives import encoded, files_below, write_folder, zipped
from PIL import Image

from flowprior import images
from flowprior.errors import FlowpriorError
from flowprior.images.finding import ENDINGS
from flowprior.images.folder import Folder
from flowprior.images.settings import SPLITS, DataSettings
from flowprior.images.splitting import split_of


def settings(path, **others):
    return DataSettings(source="folder", path=str(path), **{"resolution": 16, **others})


def put(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number, (30, 40), "PNG"))
    return folder


def test_every_known_ending_is_found(tmp_path):
    splits = Folder(settings(write_folder(tmp_path / "raw"))).splits()
    names = [name for split in SPLITS for name in splits[split]]
    assert len(names) == 60
    assert {name.rpartition(".")[2] for name in names} == {"png", "jpg", "webp", "bmp", "TIFF"}


def test_an_image_keeps_its_split_when_others_come(tmp_path):
    raw = write_folder(tmp_path / "raw", 40)
    before = Folder(settings(raw)).splits()
    write_folder(raw, 80)
    after = Folder(settings(raw)).splits()
    for split in SPLITS:
        assert set(before[split]) <= set(after[split])


def test_hash_divides_eight_to_one_to_one():
    splits = [split_of(f"{number}.png") for number in range(5000)]
    assert [round(splits.count(split) / 500) for split in SPLITS] == [8, 1, 1]


@pytest.mark.parametrize("alias", ["validation", "valid", "val", "Val"])
def test_folders_are_splits(alias, tmp_path):
    raw = put(tmp_path / "raw", "train/b.png", "train/deep/a.png", f"{alias}/c.png", "test/d.png")
    splits = Folder(settings(raw)).splits()
    assert splits["train"] == ("train/b.png", "train/deep/a.png")
    assert splits["validation"] == (f"{alias}/c.png",)
    assert splits["test"] == ("test/d.png",)


LAYOUTS = {
    "as BSDS500": ["data/images/train/a", "data/images/val/b", "data/images/test/c", "data/images/test/d"],
    "below class folders": ["cat/train/a", "cat/val/b", "dog/test/c", "cat/test/d"],
    "above class folders": ["train/cat/a", "val/cat/b", "test/dog/c", "test/cat/d"],
    "as DIV2K": ["DIV2K_train_HR/a", "DIV2K_valid_HR/b", "DIV2K_test_HR/c", "DIV2K_test_HR/d"],
    "as COCO": ["train2017/a", "val2017/b", "test2017/c", "test2017/d"],
    "as CycleGAN": ["trainA/a", "validA/b", "testA/c", "testB/d"],
    "other words": ["Training/a", "VALIDATION/b", "testing/c", "Testing/d"],
    "below a folder named like a split": ["my_test_set/train/a", "my_test_set/val/b", "my_test_set/test/c"],
    "backslashes": ["set\\train\\a", "set\\val\\b", "set\\test\\c", "set\\test\\d"],
}


@pytest.mark.parametrize("archived", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_are_splits_at_any_depth_and_by_any_usual_name(layout, archived, tmp_path):
    raw = put(tmp_path / "raw", *(f"{name}.png" for name in LAYOUTS[layout]))
    place = zipped(raw, tmp_path / "a.zip") if archived else raw
    source = Folder(settings(place))
    found = {split: {name.rpartition(".")[0][-1] for name in names} for split, names in source.splits().items()}
    assert found == {"train": {"a"}, "validation": {"b"}, "test": set("cd"[: len(LAYOUTS[layout]) - 2])}
    assert source.findings()["splits"].startswith("by folders")
    images.prepare(settings(place), tmp_path / "out")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train/test/a", "train/b", "val/c", "test/d"], "'train' and 'test' in train/test/a.png look like two"),
        (["train/test_tube/a", "val/b", "test/c"], "look like two splits; rename one, or set data.splits: folders"),
        (["cat/a", "dog/b", "test/c"], "2 images lie outside of them"),
        (["DIV2K_train_HR/a", "DIV2K_valid_HR/b"], "no test images .*add a folder test, or set data.splits: hash"),
        (["deep/test/a", "deep/test/b"], "no train images"),
        (["train_1", "train_2", "test_1"], "named after splits.*data.splits: hash"),
    ],
)
def test_what_looks_like_a_split_is_used_or_refused(names, said, tmp_path):
    raw = put(tmp_path / "raw", *(f"{name}.png" for name in names))
    with pytest.raises(FlowpriorError, match=said) as raised:
        Folder(settings(raw)).splits()
    assert "\n" not in str(raised.value)
    divided = Folder(settings(raw, splits="hash")).splits()
    assert {name for part in divided.values() for name in part} == {f"{name}.png" for name in names}
    assert all(split_of(name) == split for split, part in divided.items() for name in part)


def test_a_class_that_is_named_test_has_a_way_out(tmp_path):
    raw = put(tmp_path / "raw", "train/test/a.png", "val/test/b.png", "test/test/c.png", "test/cat/d.png")
    splits = Folder(settings(raw, splits="folders")).splits()
    assert splits["train"] == ("train/test/a.png",)
    assert splits["test"] == ("test/cat/d.png", "test/test/c.png")
    flat = put(tmp_path / "flat", "cat/a.png", "dog/b.png")
    with pytest.raises(FlowpriorError, match=r"data\.splits is folders, and no folder"):
        Folder(settings(flat, splits="folders")).splits()


@pytest.mark.parametrize("name", ["contest/a", "latest/a", "value/a", "trainer/a", "Tests of light/a", "protest/a"])
def test_words_that_only_hold_a_splits_name_are_none(name, tmp_path):
    raw = put(tmp_path / "raw", f"{name}.png", "cat/b.png")
    assert Folder(settings(raw)).findings()["splits"].startswith("by a hash")


def test_splits_is_a_setting_of_folders_alone():
    with pytest.raises(ValueError, match="splits is for source folder"):
        DataSettings(source="celeba", splits="hash")
    assert settings("a").key != settings("a", splits="hash").key


def test_links_are_followed_and_each_target_is_found_once(tmp_path):
    raw = put(tmp_path / "raw", "a/1.png", "a/2.png")
    put(tmp_path / "elsewhere", "3.png", "deep/4.png")
    (raw / "b").symlink_to(tmp_path / "elsewhere")
    (raw / "c").symlink_to(tmp_path / "elsewhere/deep")
    (raw / "loop").symlink_to(raw)
    (tmp_path / "elsewhere/back").symlink_to(raw / "a")
    (raw / "0.png").symlink_to(raw / "a/1.png")
    (raw / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (raw / "a/hard.png").hardlink_to(raw / "a/2.png")
    source = Folder(settings(raw))
    names = sorted(name for part in source.splits().values() for name in part)
    assert names == ["a/1.png", "a/2.png", "b/3.png", "b/deep/4.png"]
    findings = source.findings()
    assert findings["unreadable"] == ["broken.png"]
    assert findings["repeated"] == ["0.png", "a/hard.png", "b/back", "c", "loop"]


def test_a_sub_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    raw = put(tmp_path / "raw", "a/1.png", "b/2.png")
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", denied)
    assert Folder(settings(raw)).findings()["unreadable"] == ["b"]


def test_the_manifest_keeps_what_was_found_and_ignored(tmp_path, capsys):
    raw = put(tmp_path / "raw", "train/a.png", "val/b.png", "test/c.png")
    for name, kind in (("d.jfif", "JPEG"), ("e.ppm", "PPM"), ("f.GIF", "GIF"), ("g.bmp", "BMP")):
        (raw / "train" / name).write_bytes(encoded(1, kind=kind))
    for number in range(3):
        (raw / f"train/{number}.HEIC").write_bytes(b"x")
    (raw / "README").write_text("x")
    (raw / ".DS_Store").write_text("x")
    listing = images.prepare(settings(raw), tmp_path / "out")["listing"]
    assert listing["found"] == {".bmp": 1, ".gif": 1, ".jfif": 1, ".png": 3, ".ppm": 1}
    assert listing["ignored"] == {"": 1, ".heic": 3}
    assert listing["splits"] == "by folders: train is train, val is validation, test is test"
    said = capsys.readouterr().out
    assert "ignored: 1 without ending, 3 .heic" in said
    assert listing["splits"] in said


def test_pillow_opens_every_known_ending():
    Image.init()
    assert {Image.EXTENSION.get(ending) for ending in ENDINGS} <= Image.OPEN.keys()


def test_the_listing_changes_with_every_image(tmp_path):
    raw = put(tmp_path / "raw", "deep/a.png", "deep/b.png")
    seen = [images.listing(settings(raw))]
    os.utime(raw)
    assert images.listing(settings(raw)) == seen[0]
    (raw / "deep/b.png").write_bytes(encoded(7, kind="PNG"))
    seen.append(images.listing(settings(raw)))
    put(raw, "deep/c.png")
    seen.append(images.listing(settings(raw)))
    (raw / "deep/a.png").unlink()
    seen.append(images.listing(settings(raw)))
    assert len(set(seen)) == 4


def test_a_name_that_is_no_text_is_one_line(tmp_path):
    raw = put(tmp_path / "raw", "a.png")
    (raw / "a.png").rename(os.fsdecode(os.fsencode(raw) + b"/caf\xe9.png"))
    with pytest.raises(FlowpriorError, match=r"1 names below .* are not UTF-8 \(caf\\xe9.png"):
        Folder(settings(raw)).splits()


def test_images_outside_of_the_splits_folders_are_an_error(tmp_path):
    raw = put(tmp_path / "raw", "train/a.png", "val/b.png", "test/c.png", "stray.png")
    with pytest.raises(FlowpriorError, match=r"1 images lie outside of them \(stray.png"):
        Folder(settings(raw)).splits()


def test_an_archive_may_have_one_folder_around_all(tmp_path):
    raw = put(tmp_path / "raw", "train/a.png", "val/b.png", "test/c.png")
    splits = Folder(settings(zipped(raw, tmp_path / "a.zip"))).splits()
    assert splits == {
        "train": ("raw/train/a.png",),
        "validation": ("raw/val/b.png",),
        "test": ("raw/test/c.png",),
    }


def test_folder_and_archive_give_the_same_pixels(tmp_path):
    raw = put(tmp_path / "raw", "train/a.png", "train/b.png", "val/c.png", "test/d.png")
    archive = zipped(raw, tmp_path / "a.zip")
    images.prepare(settings(raw), tmp_path / "one")
    images.prepare(settings(archive), tmp_path / "two")
    one, two = files_below(tmp_path / "one"), files_below(tmp_path / "two")
    assert all(one[f"{split}.npy"] == two[f"{split}.npy"] for split in SPLITS)


def test_what_file_managers_add_is_no_image(tmp_path):
    raw = put(tmp_path / "raw", "a.png", ".b.png", "__MACOSX/._a.png", ".thumbs/c.png", "._a.png")
    (raw / "notes.txt").write_text("no image")
    assert [name for names in Folder(settings(raw)).splits().values() for name in names] == ["a.png"]


def test_the_checksum_of_a_folder_follows_contents_and_names(tmp_path):
    raw = put(tmp_path / "raw", "a.png", "b.png")
    sums = [Folder(settings(raw)).checksums()]
    (raw / "a.png").write_bytes(encoded(9, kind="PNG"))
    sums.append(Folder(settings(raw)).checksums())
    (raw / "b.png").rename(raw / "c.png")
    sums.append(Folder(settings(raw)).checksums())
    assert len({values["raw"] for values in sums}) == 3


def test_an_unreadable_file_is_counted(tmp_path):
    raw = write_folder(tmp_path / "raw")
    broken = next(name for name in Folder(settings(raw)).splits()["train"])
    (raw / broken).write_bytes(b"no image")
    facts = images.prepare(settings(raw), tmp_path / "out")["splits"]["train"]
    assert facts["unreadable"] == [broken]
    assert facts["count"] == len(facts["names"]) == len(np.load(tmp_path / "out/train.npy"))


def test_pixels_are_the_centre_of_the_image(tmp_path):
    raw = put(tmp_path / "raw", "a.png")
    pixels = Folder(settings(raw, resolution=30)).pixels("a.png")
    assert np.array_equal(pixels, np.asarray(Image.open(raw / "a.png"))[5:35])


@pytest.mark.parametrize("kind", ["empty folder", "truncated archive", "no archive"])
def test_nothing_to_read(kind, tmp_path):
    raw = tmp_path / "raw"
    if kind == "empty folder":
        raw.mkdir()
        message = "no images below"
    elif kind == "truncated archive":
        raw = zipped(put(tmp_path / "full", "a.png"), tmp_path / "a.zip")
        raw.write_bytes(raw.read_bytes()[:-30])
        message = "truncated or no zip archive"
    else:
        raw.write_text("text")
        message = "truncated or no zip archive"
    with pytest.raises(FlowpriorError, match=message):
        images.prepare(settings(raw), tmp_path / "prepared/out")
    assert not list((tmp_path / "prepared").iterdir())


def test_a_checksum_of_a_folder_is_an_error(tmp_path):
    raw = put(tmp_path / "raw", "train/a.png", "val/b.png", "test/c.png")
    with pytest.raises(FlowpriorError, match=r"data\.checksum is for one archive"):
        images.prepare(settings(raw, checksum="md5:" + 32 * "0"), tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["trainset", "TrainImages", "testimages", "valdata", "holdout", "dev", "test_hr", "testHR"]
)
def test_words_that_others_are_joined_to_name_a_split(name):
    from flowprior.images.splitting import split_meant

    assert split_meant(name) is not None


@pytest.mark.parametrize("name", ["trains", "latest", "contest", "value", "testament", "device", "restraint", "images"])
def test_words_that_only_begin_alike_name_none(name):
    from flowprior.images.splitting import split_meant

    assert split_meant(name) is None
