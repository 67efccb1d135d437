"""Decoding, cropping, storing."""

import contextlib
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from flowprior import images
from flowprior.errors import FlowpriorError
from flowprior.images.decode import UNREADABLE, as_rgb, open_rgb, read_picture, square
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
        ("I;16", 0x80FF, (128, 128, 128), "TIFF"),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0), "TIFF"),
        ("LAB", (128, 128, 128), (119, 119, 119), "TIFF"),
        ("YCbCr", (128, 128, 128), (128, 128, 128), "TIFF"),
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


def tiff(values: np.ndarray, bits: int, order: str = "<", **tags: int) -> io.BytesIO:
    """A grey TIFF of one strip, with more tags: what pillow does not write."""
    if bits == 12:
        digits = "".join(f"{value:012b}" for row in values for value in row)
        data = int(digits, 2).to_bytes(len(digits) // 8, "big")
    else:
        data = values.astype(f"{order}u{bits // 8}").tobytes()
    height, width = values.shape
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries |= {{"photometric": 262, "largest": 281, "sign": 339}[name]: value for name, value in tags.items()}
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    listed = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in sorted(entries.items()))
    return io.BytesIO(head + data + struct.pack(f"{order}H", len(entries)) + listed + bytes(4))


RAMP = np.tile(np.arange(0, 256, 17), (4, 1))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (tiff(RAMP * 257, 16), RAMP),
        (tiff(RAMP * 257, 16, ">"), RAMP),
        (tiff(RAMP * 257, 16, photometric=0), 255 - RAMP),
        (tiff(RAMP * 4095 // 255, 12), RAMP),
        (tiff(RAMP * 4095 // 255, 16, largest=4095), RAMP),
        (tiff(RAMP, 32, largest=255), RAMP),
        (io.BytesIO(b"P5 16 4 1023 " + (RAMP * 1023 // 255).astype(">u2").tobytes()), RAMP * 1023 // 255 / 1023 * 255),
        (io.BytesIO(b"P5 16 4 255 " + RAMP.astype("u1").tobytes()), RAMP),
    ],
    ids=["little", "big", "0 is white", "12 bits", "12 in 16, declared", "8 in 32, declared", "10 bits", "8 bits"],
)
def test_grey_is_scaled_by_what_the_file_declares(file, expected):
    assert np.abs(np.asarray(open_rgb(file))[..., 0] - expected).max() <= 0.51


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N"])
def test_every_byte_order_of_16_bits(mode):
    image = Image.new(mode, (2, 1))
    image.putpixel((0, 0), 65535)
    image.putpixel((1, 0), 0x0102)
    assert np.asarray(as_rgb(image, 65535))[0, :, 0].tolist() == [255, 1]


@pytest.mark.parametrize("mode", ["PA", "HSV", "RGBa"])
def test_modes_that_few_files_have(mode):
    grey = Image.new("RGBA", (2, 2), (90, 90, 90, 255))
    image = grey.convert("P").convert("PA") if mode == "PA" else grey.convert("RGB" if mode == "HSV" else "RGBA")
    assert np.abs(np.asarray(as_rgb(image.convert(mode))).astype(int) - 90).max() <= 20


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (tiff(RAMP * 16, 16), "fewer bits than the file declares.*scale them"),
        (saved(Image.fromarray((RAMP * 16).astype(np.uint16))), "fewer bits than the file declares"),
        (tiff(RAMP, 32), "no known range.*8 or 16 bits"),
        (tiff(RAMP, 16, sign=2), "no known range"),
        (tiff(RAMP * 257, 16, largest=4095), "not 0 to 4095 as the file declares"),
        (saved(Image.new("F", (4, 4)), "TIFF"), "floating-point.*8 or 16 bits"),
    ],
    ids=["12 in 16", "12 in 16 PNG", "8 in 32", "signed", "more than declared", "float"],
)
def test_values_of_no_known_range_are_refused(file, said):
    with pytest.raises(UNREADABLE, match=said):
        open_rgb(file)


def test_colours_of_12_in_16_bits_are_refused():
    def png_of_48_bits(values):  # pillow writes no PNG of 48 bits a pixel
        rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in values)
        parts = [
            (b"IHDR", struct.pack(">IIBBBBB", 16, 4, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        ]
        chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
        return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))

    assert np.array_equal(np.asarray(open_rgb(png_of_48_bits(RAMP * 257)))[..., 1], RAMP)
    with pytest.raises(ValueError, match="fewer bits than the file declares"):
        open_rgb(png_of_48_bits(RAMP * 16))


def test_odd_metadata_is_no_line_of_its_own(recwarn):
    content = tiff(RAMP * 257, 16).getvalue()
    at = content.rindex(struct.pack("<HHI", 279, 3, 1))
    odd = content[:at] + struct.pack("<HHII", 279, 3, 9, 10**6) + content[at + 12 :]
    with contextlib.suppress(UNREADABLE):
        open_rgb(io.BytesIO(odd))
    assert not recwarn.list


def test_a_transparent_grey_of_16_bits_is_laid_on_white():
    pixels = np.array([[0x8000, 0xFFFF, 0x1234]], np.uint16)
    file = saved(Image.fromarray(pixels), transparency=0x1234)
    assert np.asarray(open_rgb(file))[0, :, 0].tolist() == [128, 255, 255]


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_several_frames_comes_the_first(kind):
    first, second = Image.new("RGB", (4, 4), "white"), Image.new("RGB", (4, 4), "black")
    assert np.asarray(open_rgb(saved(first, kind, save_all=True, append_images=[second]))).min() == 255


def huge_header() -> bytes:
    """A PNG that says that it has 400 megapixels."""
    content = bytearray(saved(ramps(8, 8)).getvalue())
    at = content.index(b"IHDR")
    content[at + 4 : at + 12] = struct.pack(">II", 20000, 20000)
    content[at + 17 : at + 21] = struct.pack(">I", zlib.crc32(content[at : at + 17]))
    return bytes(content)


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "F"])
def test_no_pixels_are_refused(mode):
    with pytest.raises(ValueError, match="without pixels"):
        as_rgb(Image.new(mode, (0, 3)))


def test_a_long_strip_is_refused_as_a_square():
    with pytest.raises(ValueError, match="too long a strip"):
        square(Image.new("RGB", (1, 100_000)), 1024)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no picture at"),
        ("folder", "is no file"),
        (b"", "no image of a known format"),
        (saved(ramps(90, 90), "JPEG").getvalue()[:-300], "truncated"),
        (saved(Image.new("F", (4, 4)), "TIFF").getvalue(), "floating-point"),
        (huge_header(), "more than 178,956,970 pixels; make it smaller"),
    ],
)
def test_a_picture_that_can_not_be_read_is_one_line(content, said, tmp_path):
    path = tmp_path / "a.png"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(FlowpriorError, match=said) as raised:
        read_picture(path)
    assert "\n" not in str(raised.value)
    assert "BytesIO" not in str(raised.value)


def test_a_picture_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(saved(ramps(4, 4)).getvalue())

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "open", denied)
    with pytest.raises(FlowpriorError, match="may not be read by this user"):
        read_picture(tmp_path / "a.png")


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
