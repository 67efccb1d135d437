"""Any folder or archive of images."""

import numpy as np
import pytest
from image_archives import encoded, files_below, write_folder, zipped

from flowprior import images
from flowprior.errors import FlowpriorError
from flowprior.images.folder import Folder, split_of
from flowprior.images.settings import SPLITS, DataSettings


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
    from PIL import Image

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
