"""From encoded bytes to square RGB pixels."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import IO

import numpy as np
from PIL import Image, ImageOps

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


def open_rgb(file: IO[bytes]) -> Image.Image:
    """Decode an image of any mode as RGB, upright as its EXIF orientation says.

    Transparent parts are laid on white; 16-bit grey is reduced to its high byte; of an animation comes the
    first frame; colour profiles are ignored, as by the papers' programs.

    Raises:
        Exception: one of `UNREADABLE`: truncated, not an image, or floating-point pixels (of no known range).
    """
    with Image.open(file) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode == "RGB" and "transparency" not in upright.info:
        return upright
    if upright.mode.startswith("I"):
        values = np.asarray(upright).astype(np.int64)
        return Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8)).convert("RGB")
    if upright.mode == "F":
        raise ValueError("floating-point pixels")
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return upright.convert("RGB")


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
