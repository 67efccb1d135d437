"""From encoded bytes to square RGB pixels."""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flowprior.errors import FlowpriorError
from flowprior.files import readable

#: What decoding a damaged image or archive member may raise (RuntimeError: an encrypted member).
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    IndexError,
    RuntimeError,
    SystemError,
    TypeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
)

#: TIFF's tags.
_PHOTOMETRIC = 262
_LARGEST_VALUE = 281
_TOO_DARK = (
    "its 16-bit values are all below 4096: fewer bits than the file declares, or nearly black; "
    "scale them to 65535 or save it with 8 bits"
)
#: A longer strip is not enlarged to a square: it would take gigabytes.
_LONGEST = 100


def open_rgb(file: IO[bytes]) -> Image.Image:
    """Decode an image as 8-bit RGB, upright as its EXIF orientation says: the one door for every picture.

    | pixels | become |
    |---|---|
    | 1, L, P, RGB, CMYK, YCbCr, LAB, HSV | RGB as pillow converts, without colour profiles, as the papers' programs |
    | transparent (LA, PA, RGBA, a transparent colour) | laid on white |
    | grey of 9 to 16 bits, in any byte order | v 255 / largest; the file declares bits or the largest |
    | colour of 16 bits | the high byte |
    | 16 bits of which the upper four are never used | refused: fewer bits than the file declares |
    | 32-bit integers, signed integers | refused unless the file declares its largest value |
    | floating-point | refused: of no known range |
    | several frames or pages | the first |

    Raises:
        Exception: one of `UNREADABLE`, saying what to do: truncated, not an image, refused as above, without
            pixels, or of more pixels than pillow thinks safe (178,956,970).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata of a picture that is read; what can not be read is an error
        with Image.open(file) as image:
            largest, inverted, deep = _declared(image)
            image.load()
            upright = ImageOps.exif_transpose(image)
    return as_rgb(upright, largest, inverted, deep)


def read_picture(path: Path) -> Image.Image:
    """A picture that a person named, by the rules of `open_rgb`.

    Raises:
        FlowpriorError: it is missing, no file, may not be read, or can not be decoded; with the reason.
    """
    path = Path(path)
    try:
        with readable(path):
            if path.exists() and not path.is_file():
                raise FlowpriorError(f"{path} is no file; name a picture")
            file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise FlowpriorError(f"no picture at {path}") from None
    with file:
        try:
            return open_rgb(file)
        except UNREADABLE as error:
            raise FlowpriorError(f"{path} cannot be read as a picture: {reason(error)}") from None


def reason(error: Exception) -> str:
    """Why an image can not be decoded, without the names of objects in memory, which pillow gives."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a known format, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; make it smaller"
    return " ".join(str(error).split()) or type(error).__name__


def as_rgb(image: Image.Image, largest: int | None = None, inverted: bool = False, deep: bool = False) -> Image.Image:
    """Decoded pixels of any mode as RGB; see `open_rgb`.

    Args:
        image: upright.
        largest: the value that is white, for modes of more than 8 bits; None: not declared.
        inverted: 0 is white (such modes only; pillow inverts the others itself).
        deep: 8-bit values are the high bytes of 16-bit ones.

    Raises:
        ValueError: refused, saying what to do.
    """
    if not all(image.size):
        raise ValueError(f"it is {image.width}x{image.height}, without pixels")
    if image.mode == "F":
        raise ValueError("its floating-point pixels are of no known range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_integers(image, largest, inverted)
    clear = image.info.get("transparency")
    if deep:
        if 0 < int(np.asarray(image.convert("RGB")).max()) < 16:
            raise ValueError(_TOO_DARK)
        if isinstance(clear, tuple):
            image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _declared(image: Image.Image) -> tuple[int | None, bool, bool]:
    """What a file says before it is read: its largest value, whether 0 is white, whether colours have 16 bits."""
    tiles = getattr(image, "tile", [])
    raw = str(tiles[0].args) if tiles else ""
    deep = ";16" in raw and not image.mode.startswith("I")
    tags = getattr(image, "tag_v2", {})
    largest = None
    if image.mode.startswith("I;16"):
        largest = 2 ** (12 if ";12" in raw else 16) - 1
    elif image.format == "PPM":  # pillow has scaled by the largest value of the header
        largest = 2**16 - 1
    if said := tags.get(_LARGEST_VALUE):
        largest = max(said) if isinstance(said, tuple) else said
    return largest, tags.get(_PHOTOMETRIC) == 0, deep


def _from_integers(image: Image.Image, largest: int | None, inverted: bool) -> Image.Image:
    """Grey of more than 8 bits."""
    if largest is None:
        raise ValueError("its integers are of no known range (32 bits, or signed); save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > largest:
        raise ValueError(
            f"its values are {low} to {high}, not 0 to {largest} as the file declares; save it with 8 bits"
        )
    if largest == 2**16 - 1 and 0 < high < 2**12:
        raise ValueError(_TOO_DARK)
    grey = np.rint(values * (255 / largest)).astype(np.uint8)
    grey = 255 - grey if inverted else grey
    clear = image.info.get("transparency")
    return Image.fromarray(np.where(values == clear, np.uint8(255), grey) if isinstance(clear, int) else grey).convert(
        "RGB"
    )


def square(image: Image.Image, side: int) -> np.ndarray:
    """Shorter side resized to `side`, then the centre cropped: Resize and CenterCrop of paper A's program.

    The longer side becomes int(side * longer / shorter); the filter is the antialiased triangle (pillow's
    BILINEAR); the crop begins at round((longer - side) / 2), half to even: what torchvision does.

    Args:
        image: RGB, of any size.
        side: in pixels.

    Returns:
        uint8 (side, side, 3).

    Raises:
        ValueError: it is more than 100 times as long as wide.

    Example:
        >>> square(Image.new("RGB", (178, 218), "red"), 32).shape
        (32, 32, 3)
    """
    width, height = image.size
    if max(width, height) > _LONGEST * min(width, height):
        raise ValueError(f"it is {width}x{height}, too long a strip to crop a square from; cut it")
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in size)
    return np.asarray(resized.crop((left, top, left + side, top + side)))
