"""Numbers that papers print, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from flowprior.errors import UnknownNameError

#: 20 log10(255): a printed value p of Chávez 2021 means 2 p - 48.13 dB.
OFFSET = 20 * math.log10(255)


class Published(NamedTuple):
    """One entry of a published table.

    Attributes:
        row: the paper's name of the method.
        printed_psnr: as printed.
        ssim: as printed; NaN where the paper gives none.
        psnr: the true PSNR in dB behind the printed value.
    """

    row: str
    printed_psnr: float
    ssim: float
    psnr: float


#: Who an entry is of: task, registered solver, and model; None: whatever the model.
Key = tuple[str, str, str | None]


@dataclass(frozen=True)
class Reference:
    """The tables of a paper.

    Attributes:
        title: of the paper and its tables.
        bits: grey levels per channel, as bits, of the images behind them.
        entries: of the experiment's own test images.
        sets: name of another test set -> its entries.
        square_root: whether the printed values are those of Chávez 2021's program.
    """

    title: str
    bits: int
    entries: Mapping[Key, Published]
    sets: Mapping[str, Mapping[Key, Published]]
    square_root: bool

    def entry(self, task: str, solver: str, prior: str, images: str = "test") -> Published | None:
        """What the paper prints of a method on a task, or None."""
        table = self.entries if images == "test" else self.sets.get(images, {})
        return table.get((task, solver, prior), table.get((task, solver, None)))


def true_psnr(printed: float) -> float:
    """PSNR in dB behind a value that Chávez 2021 prints, whose program takes a square root too many.

    Example:
        >>> round(true_psnr(37.72), 2)
        27.31
    """
    return 2 * printed - OFFSET


_TASKS = ("denoising", "deblurring", "inpainting", "colorization")
_CHAVEZ2021 = {
    "csgm": ("CSGM", [(37.41, 0.897), (37.17, 0.883), (36.39, 0.839), (34.71, 0.897)]),
    "glowip": ("GlowIP", [(37.21, 0.894), (35.82, 0.867), (37.81, 0.903), (35.79, 0.937)]),
    "bm3d": ("BM3D", [(37.65, 0.905)]),
    "chavez": ("Ours", [(37.72, 0.918), (39.72, 0.963), (37.97, 0.913), (35.72, 0.940)]),
}

#: Model -> the paper's row, and mean PSNR of denoising at .2, inpainting of 19x19, deblurring of std 5 (tables I, II).
_WEI2022 = {
    "resnet": ("ResNet Prox", (27.054, 34.010, 35.554)),
    "resnet_pretrained": ("Pre-trained ResNet Prox", (None, 33.216, 35.703)),
    "unet": ("U-Net Prox", (28.180, 35.157, 38.662)),
    "unet_pretrained": ("Pre-trained U-Net Prox", (None, 35.337, 38.046)),
    "glow": ("GLOW Prox", (28.236, 35.927, 40.549)),
    "glow_frozen": ("Plug-and-play", (8.112, 18.960, 23.141)),
}
#: Table III, the same models on other measurements: denoising at .25, inpainting of 16x16, deblurring of std 8.
_WEI2022_OTHER_MEASUREMENTS = {
    "resnet": ("ResNet Prox", (25.489, 34.644, 35.358)),
    "unet": ("U-Net Prox", (25.770, 35.917, 38.034)),
    "glow": ("GLOW Prox", (26.633, 36.634, 39.461)),
}
#: Table IV, on drawn faces.
_WEI2022_ANIME = {
    "resnet": ("ResNet Prox", (21.746, 23.705, 25.007)),
    "unet": ("U-Net Prox", (22.587, 24.015, 26.224)),
    "glow": ("GLOW Prox", (22.102, 23.472, 27.419)),
}


def _unfolded(
    table: Mapping[str, tuple[str, tuple[float | None, ...]]], tasks: tuple[str, ...]
) -> dict[Key, Published]:
    """Entries of unfolded networks, which are told apart by their models."""
    return {
        (task, "unfolded", model): Published(row, value, math.nan, value)
        for model, (row, values) in table.items()
        for task, value in zip(tasks, values, strict=True)
        if value is not None
    }


#: Name -> what a paper prints. Chávez et al. 2021: 192 test faces of CelebA. Wei et al. 2022: 64x64 faces of CelebA-HQ;
#: an experiment names its tasks and models as here, the smaller hole and the like `<task>_other`, and drawn faces
#: `anime`, to stand beside it.
TABLES: Mapping[str, Reference] = {
    "chavez2021": Reference(
        "Chávez et al. 2021, Table 1",
        5,
        {
            (task, solver, None): Published(row, printed, ssim, true_psnr(printed))
            for solver, (row, entries) in _CHAVEZ2021.items()
            for task, (printed, ssim) in zip(_TASKS, entries, strict=False)
        },
        {},
        square_root=True,
    ),
    "wei2022": Reference(
        "Wei et al. 2022, Tables I to IV",
        8,
        {
            **_unfolded(_WEI2022, ("denoising", "inpainting", "deblurring")),
            **_unfolded(_WEI2022_OTHER_MEASUREMENTS, ("denoising_other", "inpainting_other", "deblurring_other")),
        },
        {"anime": _unfolded(_WEI2022_ANIME, ("denoising", "inpainting", "deblurring"))},
        square_root=False,
    ),
}


def reference_of(name: str) -> Reference:
    """A paper's tables.

    Raises:
        UnknownNameError: none is known by that name.
    """
    if name not in TABLES:
        raise UnknownNameError("reference", name, TABLES)
    return TABLES[name]
