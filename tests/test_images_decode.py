"""Decoding, cropping, storing."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from flowprior import images
from flowprior.errors import FlowpriorError
from flowprior.images.decode import UNREADABLE, open_rgb, square
from flowprior.images.store import NpyWriter


def saved(image: Image.Image, kind: str = "PNG", **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def ramps(width: int, height: int) -> Image.Image:
    """Red is the column, green the row."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


@pytest.mark.parametrize(
    ("width", "height", "side", "resized", "offset"),
    [
        (178, 218, 32, (32, 39), (0, 4)),  # CelebA: (39 - 32) / 2 = 3.5 is rounded half to even
        (178, 218, 64, (64, 78), (0, 7)),
        (218, 178, 32, (39, 32), (4, 0)),
        (200, 200, 32, (32, 32), (0, 0)),
        (101, 250, 25, (25, 61), (0, 18)),
    ],
)
def test_crop_shows_the_centre_at_the_right_scale(width, height, side, resized, offset):
    pixels = square(ramps(width, height), side).astype(float)
    assert pixels.shape == (side, side, 3)
    inner = np.arange(2, side - 2)  # at the border the filter is cut off
    columns = (inner + offset[0] + 0.5) * width / resized[0] - 0.5
    rows = (inner + offset[1] + 0.5) * height / resized[1] - 0.5
    assert np.abs(pixels[5, inner, 0] - columns).max() < 1
    assert np.abs(pixels[inner, 5, 1] - rows).max() < 1


def test_resizing_is_antialiased():
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    pixels = square(Image.fromarray(board).convert("RGB"), 32)
    assert np.abs(pixels.astype(int) - 128).max() <= 1


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, 1), (3, 2), (8, 3)])
def test_exif_orientation_is_respected(orientation, turns):
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:8] = 200
    upright[:, :10, 2] = 90
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.rot90(upright, turns).copy())
    assert np.array_equal(np.asarray(open_rgb(saved(stored, exif=exif))), upright)


@pytest.mark.parametrize(
    ("mode", "colour", "expected", "kind"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30), "PNG"),
        ("L", 77, (77, 77, 77), "PNG"),
        ("1", 1, (255, 255, 255), "PNG"),
        ("P", 0, (0, 0, 0), "PNG"),
        ("LA", (100, 255), (100, 100, 100), "PNG"),
        ("RGBA", (200, 0, 0, 0), (255, 255, 255), "PNG"),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204), "PNG"),
        ("I;16", 0x80FF, (128, 128, 128), "PNG"),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0), "TIFF"),
    ],
)
def test_every_mode_becomes_rgb(mode, colour, expected, kind):
    image = open_rgb(saved(Image.new(mode, (5, 4), colour), kind))
    assert (image.mode, image.size) == ("RGB", (5, 4))
    assert np.array_equal(np.asarray(image), np.broadcast_to(np.uint8(expected), (4, 5, 3)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image at all",
        saved(ramps(90, 90), "JPEG").getvalue()[:-300],
        saved(ramps(90, 90), "PNG").getvalue()[:-100],
        saved(Image.new("F", (4, 4)), "TIFF").getvalue(),
    ],
    ids=["empty", "text", "cut JPEG", "cut PNG", "floating-point"],
)
def test_what_can_not_be_decoded_is_unreadable(content):
    with pytest.raises(UNREADABLE):
        open_rgb(io.BytesIO(content))


@pytest.mark.parametrize("count", [1, 3, 1200])
def test_written_rows_are_read_by_numpy(count, tmp_path):
    rows = np.random.default_rng(count).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    with NpyWriter(tmp_path / "a.npy", 4) as writer:
        for row in rows:
            writer.append(row)
    assert np.array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), rows)
    np.save(tmp_path / "b.npy", rows)
    assert (tmp_path / "a.npy").stat().st_size == (tmp_path / "b.npy").stat().st_size


@pytest.mark.parametrize("row", [np.zeros((4, 4, 3)), np.zeros((4, 5, 3), np.uint8)])
def test_writer_takes_only_what_fits(row, tmp_path):
    with NpyWriter(tmp_path / "a.npy", 4) as writer, pytest.raises(TypeError):
        writer.append(row)


@pytest.fixture
def stored(tmp_path):
    with NpyWriter(tmp_path / "test.npy", 4) as writer:
        for value in range(5):
            writer.append(np.full((4, 4, 3), value, np.uint8))
    manifest = {"splits": {"test": {"names": list("abcde")}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_load_gives_the_first_with_their_names(stored):
    some = images.load(stored / "test.npy", stored / "manifest.json", count=2)
    assert some.names == ("a", "b")
    assert some.pixels[:, 0, 0, 0].tolist() == [0, 1]
    assert len(images.load(stored / "test.npy", stored / "manifest.json")) == 5


def test_changing_loaded_pixels_changes_no_file(stored):
    before = (stored / "test.npy").read_bytes()
    loaded = images.load(stored / "test.npy", stored / "manifest.json")
    loaded.pixels[:] = 9
    assert (stored / "test.npy").read_bytes() == before


def test_asking_for_more_than_there_is_names_the_remedy(stored):
    with pytest.raises(FlowpriorError, match="6 images asked for, but split 'test' has 5: lower test_images"):
        images.load(stored / "test.npy", stored / "manifest.json", count=6)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("test.npy", None, "no prepared images"),
        ("test.npy", b"", "damaged"),
        ("test.npy", b"\x80\x04K\x01.", "damaged"),  # a pickle is not loaded
        ("manifest.json", None, "no manifest"),
        ("manifest.json", b"{", "says nothing"),
        ("manifest.json", b'{"splits": {"test": {"names": ["a"]}}}', "holds 5 images, its manifest 1"),
    ],
)
def test_missing_or_damaged_files_are_named(stored, file, content, message):
    if content is None:
        (stored / file).unlink()
    else:
        (stored / file).write_bytes(content)
    with pytest.raises(FlowpriorError, match=message):
        images.load(stored / "test.npy", stored / "manifest.json")


def test_a_truncated_array_is_damaged(stored):
    content = (stored / "test.npy").read_bytes()
    (stored / "test.npy").write_bytes(content[:-1])
    with pytest.raises(FlowpriorError, match="damaged"):
        images.load(stored / "test.npy", stored / "manifest.json")
