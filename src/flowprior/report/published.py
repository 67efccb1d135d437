"""Numbers that papers print, and what they mean."""

from __future__ import annotations

import math
from typing import NamedTuple

from flowprior.errors import UnknownNameError

#: 20 log10(255): a printed value p of Chávez 2021 means 2 p - 48.13 dB.
OFFSET = 20 * math.log10(255)


class Published(NamedTuple):
    """One entry of a published table.

    Attributes:
        row: the paper's name of the method.
        psnr: true, in dB: mean over images.
        ssim: as printed.
        printed_psnr: as printed, where that is another number; NaN where it is not.
        psnr_std: standard deviation between images, in dB; NaN where the paper gives none.
        ssim_std: the same of SSIM.
    """

    row: str
    psnr: float
    ssim: float
    printed_psnr: float = math.nan
    psnr_std: float = math.nan
    ssim_std: float = math.nan


class Reference(NamedTuple):
    """A published table, and the images behind it.

    Attributes:
        title: the paper and the table.
        bits: grey levels per channel, as bits.
        side: of the images, in pixels.
        printed: whether its PSNR is printed as another number, as Chávez 2021 does.
        note: what its numbers are of.
        table: (task, solver) -> entry.
    """

    title: str
    bits: int
    side: int
    printed: bool
    note: str
    table: dict[tuple[str, str], Published]


def true_psnr(printed: float) -> float:
    """PSNR in dB behind a value that Chávez 2021 prints, whose program takes a square root too many.

    Example:
        >>> round(true_psnr(37.72), 2)
        27.31
    """
    return 2 * printed - OFFSET


_CHAVEZ_TASKS = ("denoising", "deblurring", "inpainting", "colorization")
_CHAVEZ2021 = {
    "csgm": ("CSGM", [(37.41, 0.897), (37.17, 0.883), (36.39, 0.839), (34.71, 0.897)]),
    "glowip": ("GlowIP", [(37.21, 0.894), (35.82, 0.867), (37.81, 0.903), (35.79, 0.937)]),
    "bm3d": ("BM3D", [(37.65, 0.905)]),
    "chavez": ("Ours", [(37.72, 0.918), (39.72, 0.963), (37.97, 0.913), (35.72, 0.940)]),
}
#: task -> PSNR and SSIM of synthesis, then of analysis, each with its standard deviation.
_OBERLIN2021 = {
    "deblurring": ((23.38, 2.04, 0.74, 0.09), (32.16, 1.56, 0.94, 0.01)),
    "super_resolution_2": ((22.26, 4.21, 0.76, 0.12), (31.19, 1.33, 0.93, 0.01)),
    "super_resolution_4": ((18.94, 2.81, 0.61, 0.11), (24.12, 1.21, 0.76, 0.03)),
    "random_mask": ((21.84, 3.57, 0.71, 0.14), (27.89, 2.24, 0.87, 0.05)),
    "square_mask": ((30.40, 2.53, 0.94, 0.02), (27.50, 3.26, 0.91, 0.03)),
}
REFERENCES = {
    "chavez2021": Reference(
        title="Chávez et al. 2021, Table 1",
        bits=5,
        side=32,
        printed=True,
        note="Means over 192 test faces of CelebA.",
        table={
            (task, solver): Published(row, true_psnr(printed), ssim, printed)
            for solver, (row, entries) in _CHAVEZ2021.items()
            for task, (printed, ssim) in zip(_CHAVEZ_TASKS, entries, strict=False)
        },
    ),
    "oberlin2021": Reference(
        title="Oberlin & Verm 2021, Table 1",
        bits=8,
        side=64,
        printed=False,
        note="Means over 50 test faces of CelebA and their standard deviation between images, by a Glow of 61 million "
        "parameters.",
        table={
            (task, solver): Published(row, psnr, ssim, psnr_std=psnr_std, ssim_std=ssim_std)
            for task, entries in _OBERLIN2021.items()
            for (solver, row), (psnr, psnr_std, ssim, ssim_std) in zip(
                (("synthesis", "Synthesis"), ("analysis", "Analysis")), entries, strict=True
            )
        },
    ),
}


def reference_of(name: str) -> Reference:
    """A published table by its name.

    Raises:
        UnknownNameError: no such published table.
    """
    if name not in REFERENCES:
        raise UnknownNameError("reference", name, REFERENCES)
    return REFERENCES[name]


def table_of(name: str | None) -> dict[tuple[str, str], Published]:
    """(task, solver) -> published entry; empty without a reference.

    Raises:
        UnknownNameError: no such published table.
    """
    return {} if name is None else reference_of(name).table
