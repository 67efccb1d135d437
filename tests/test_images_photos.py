"""The bundled photographs: what belongs to which split, and that patches are where their names say."""

import hashlib
import itertools
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from flowprior import images
from flowprior.errors import FlowpriorError
from flowprior.images import photos
from flowprior.images.settings import SPLITS, DataSettings


def footprints(names, side):
    """Photograph and left, top, right, bottom in its pixels, from patches' names alone."""
    found = []
    for name in names:
        photograph, scale, left, top = re.fullmatch(r"(\w+)@([\d.]+)x\+(\d+)\+(\d+)", name).groups()
        box = np.array([int(left), int(top), int(left) + side, int(top) + side]) * float(scale)
        found.append((photograph, box))
    return found


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    for name in photos.PHOTOGRAPHS:
        shutil.copy(photos._wheel_folder() / name, folder / name)
    return folder


def split_names(raw, side, **limits):
    return photos.Photos(DataSettings(path=str(raw), resolution=side, **limits)).splits()


def test_photographs_are_the_wheels_byte_by_byte(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = DataSettings()
    images.fetch(data)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(
        images.raw_files(data)
    )
    for line in (tmp_path / "data/photos/SHA256SUMS").read_text().splitlines():
        digits, name = line.split("  ")
        content = (tmp_path / "data/photos" / name).read_bytes()
        assert content == (photos._wheel_folder() / name).read_bytes()
        assert digits == hashlib.sha256(content).hexdigest()


def test_a_wheel_with_other_pictures_is_an_error(raw, tmp_path, monkeypatch):
    wheel = shutil.copytree(raw, tmp_path / "wheel")
    (wheel / "coffee.png").write_bytes(b"tea")
    monkeypatch.setattr(photos, "_wheel_folder", lambda: wheel)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FlowpriorError, match=r"wrong checksum of .*coffee.png"):
        images.fetch(DataSettings())
    assert not (tmp_path / "data/photos").exists()


def test_a_changed_photograph_is_an_error(raw, tmp_path):
    changed = shutil.copytree(raw, tmp_path / "changed")
    (changed / "rocket.jpg").write_bytes((raw / "rocket.jpg").read_bytes() + b"\0")
    with pytest.raises(FlowpriorError, match=r"wrong checksum of .*rocket.jpg: expected sha256:c2dd"):
        images.prepare(DataSettings(path=str(changed)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checksum_setting_would_be_ignored_and_is_an_error(raw, tmp_path):
    with pytest.raises(FlowpriorError, match=r"data.checksum .* leave it out"):
        images.prepare(DataSettings(path=str(raw), checksum="md5:" + 32 * "0"), tmp_path / "out")


def test_there_are_enough_patches(raw):
    names = split_names(raw, 32)
    assert len(names["train"]) == photos.TRAIN
    assert len(names["validation"]) >= 16
    assert len(names["test"]) >= 48


@pytest.mark.parametrize("side", [16, 32, 64])
def test_test_photographs_are_seen_by_nothing_else(raw, side):
    names = split_names(raw, side, train=3000)
    shown = {split: {photo for photo, _ in footprints(names[split], side)} for split in SPLITS}
    assert len(shown["test"]) >= 2
    assert not shown["test"] & (shown["train"] | shown["validation"])
    assert shown["validation"] <= shown["train"]


@pytest.mark.parametrize("side", [16, 32, 64])
def test_training_and_validation_keep_a_margin(raw, side):
    names = split_names(raw, side)
    train, validation = footprints(names["train"], side), footprints(names["validation"], side)
    for photograph in {photo for photo, _ in validation}:
        boxes = np.array([box for photo, box in train if photo == photograph])
        for box in (box for photo, box in validation if photo == photograph):
            gaps = np.stack([box[0] - boxes[:, 2], boxes[:, 0] - box[2], box[1] - boxes[:, 3], boxes[:, 1] - box[3]])
            assert gaps.max(0).min() >= 24


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_patches_overlap_by_half_at_most(raw, split):
    boxes = footprints(split_names(raw, 32)[split], 32)
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert one != other or np.abs(a - b).max() >= 64


def test_the_stereo_pair_is_never_divided():
    assert {region.file for region in photos.REGIONS if region.file.startswith("motorcycle")} == {"motorcycle_left.png"}


def test_no_pixel_of_another_region_enters_a_patch(raw, tmp_path):
    """Whatever the validation and test regions and the margin hold, training patches stay as they are."""
    altered = shutil.copytree(raw, tmp_path / "altered")
    for file in photos.PHOTOGRAPHS:
        pixels = np.asarray(Image.open(raw / file).convert("RGB"))
        noise = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
        for region in photos.REGIONS:
            if region.file == file and region.split == "train":
                left, top, right, bottom = region.box
                noise[top:bottom, left:right] = pixels[top:bottom, left:right]
        Image.fromarray(noise).save(altered / file, "PNG")  # content decides, not the ending
    sources = [photos.Photos(DataSettings(path=str(path), train=600)) for path in (raw, altered)]
    names = sources[0].splits()
    for name in names["train"]:
        assert np.array_equal(sources[0].pixels(name), sources[1].pixels(name))
    assert not np.array_equal(*(source.pixels(names["test"][0]) for source in sources))


@pytest.mark.parametrize("split", SPLITS)
def test_patches_are_what_their_names_say(raw, split):
    source = photos.Photos(DataSettings(path=str(raw), train=200))
    whole = {name.rpartition(".")[0]: Image.open(raw / name).convert("RGB") for name in photos.PHOTOGRAPHS}
    for name in source.splits()[split][:60]:
        ((photograph, box),) = footprints([name], 32)
        image = whole[photograph]
        # Away from a region's border the filter sees the same pixels in the whole photograph.
        expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR, box=tuple(box)))
        pixels = source.pixels(name)
        assert pixels.shape == (32, 32, 3)
        assert np.abs(pixels[3:-3, 3:-3].astype(int) - expected[3:-3, 3:-3]).max() <= 1
        if name.partition("@")[2].startswith("1x"):
            left, top, right, bottom = box.astype(int)
            assert np.array_equal(pixels, np.asarray(image)[top:bottom, left:right])


def test_any_first_few_show_every_photograph_and_scale(raw):
    names = split_names(raw, 32)
    for split, wanted in (("train", 12), ("validation", 12), ("test", 12)):
        kinds = {name.partition("+")[0] for name in names[split]}
        assert {name.partition("+")[0] for name in names[split][:wanted]} == kinds
    assert {name.partition("@")[2].partition("x")[0] for name in names["train"]} == {"1.5", "2", "3"}


def test_photographs_too_small_for_the_resolution(raw, tmp_path):
    with pytest.raises(FlowpriorError, match=r"no validation images at 256 px.*lower data.resolution"):
        images.prepare(DataSettings(path=str(raw), resolution=256, train=4), tmp_path / "out")
