"""From encoded bytes to square RGB pixels."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from flowprior.errors import FlowpriorError
from flowprior.files import readable

#: White of 16 bits; a picture whose every value is below the other is taken for one of fewer bits.
_SIXTEEN, _DARKEST = 65535, 16384
#: What decoding a damaged image or archive member may raise (RuntimeError: an encrypted member).
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    IndexError,
    RuntimeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
)


def open_rgb(file: IO[bytes], white: float | None = None) -> Image.Image:
    """Decode an image of any mode as RGB, upright as its EXIF orientation says. The one door for every picture.

    | pixels | become |
    |---|---|
    | 1, 8 bits a channel: grey, palette, RGB, CMYK, YCbCr, Lab, HSV | RGB, as Pillow converts |
    | with transparency | laid on white |
    | 16 bits, grey | divided by `white`, or 65535; refused if all are below a quarter of that: 12 bits in 16 |
    | 16 bits, colour | the high byte |
    | 32-bit integers, floating point | divided by `white`; refused without it: nothing says their range |

    Of an animation or of several pages comes the first; colour profiles are ignored, as by the papers' programs.

    Args:
        file: an encoded image.
        white: the value that is white in pictures of more than 8 bits.

    Raises:
        Exception: one of `UNREADABLE`: truncated, not an image, too large to be one, or of values of unknown range.
    """
    with Image.open(file) as image:
        if min(image.size) < 1:
            raise ValueError(f"an image of {image.size[0]}x{image.size[1]} pixels")
        image.load()
        upright = ImageOps.exif_transpose(image)
        deep = image.format == "PNG" or image.mode.startswith("I;16")
    if upright.mode == "RGB" and "transparency" not in upright.info:
        return upright
    if upright.mode.startswith("I") or upright.mode == "F":
        return Image.fromarray(_by_white(np.asarray(upright), white, deep and upright.mode != "F")).convert("RGB")
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return upright.convert("RGB")


def picture(path: Path, white: float | None = None) -> np.ndarray:
    """A picture that a person names, uint8 (H, W, 3), by the same rules as every other (`open_rgb`).

    Raises:
        FlowpriorError: it is missing, a folder, not this user's to read, damaged, or of values of unknown range.
    """
    if path.is_dir():
        raise FlowpriorError(f"{path} is a folder; name a picture in it")
    try:
        with readable(path), path.open("rb") as file:
            return np.array(open_rgb(file, white))
    except FileNotFoundError:
        raise FlowpriorError(f"no picture at {path}") from None
    except FlowpriorError:
        raise
    except UNREADABLE as error:
        raise FlowpriorError(f"{path} cannot be read as a picture ({error})") from None


def _by_white(values: np.ndarray, white: float | None, deep: bool) -> np.ndarray:
    """Values of more than 8 bits as uint8.

    Args:
        values: (H, W).
        white: the value that is white; None: that of 16 bits, if the file has so many.
        deep: whether the file declares 16 bits.
    """
    numbers = values.astype(np.float64)
    most = float(numbers.max(initial=0))
    if not np.isfinite(numbers).all() or numbers.min(initial=0) < 0:
        raise ValueError("negative, infinite or missing values")
    if white is None and not deep:
        raise ValueError(f"values up to {most:g} of unknown range; set data.white (--white) to the value that is white")
    if white is None and 0 < most < _DARKEST:
        raise ValueError(
            f"16 bits with values up to {most:g} only, as of a camera with fewer bits; set data.white (--white) to the "
            "value that is white, such as 4095, or 65535 if it is this dark"
        )
    return (np.clip(numbers / (white or _SIXTEEN), 0, 1) * 255).round().astype(np.uint8)


def square(image: Image.Image, side: int) -> np.ndarray:
    """Shorter side resized to `side`, then the centre cropped: Resize and CenterCrop of paper A's program.

    The longer side becomes int(side * longer / shorter); the filter is the antialiased triangle (pillow's
    BILINEAR); the crop begins at round((longer - side) / 2), half to even: what torchvision does.

    Args:
        image: RGB, of any size.
        side: in pixels.

    Returns:
        uint8 (side, side, 3).

    Example:
        >>> square(Image.new("RGB", (178, 218), "red"), 32).shape
        (32, 32, 3)
    """
    width, height = image.size
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in size)
    return np.asarray(resized.crop((left, top, left + side, top + side)))
