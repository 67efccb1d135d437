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
        printed_psnr: as printed.
        ssim: as printed.
    """

    row: str
    printed_psnr: float
    ssim: float

    @property
    def psnr(self) -> float:
        """The true PSNR in dB behind the printed value."""
        return true_psnr(self.printed_psnr)


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
#: reference -> (task, solver) -> entry. Chávez et al. 2021, Table 1; 5-bit images, 192 test faces of CelebA.
TABLES = {
    "chavez2021": {
        (task, solver): Published(row, *values)
        for solver, (row, entries) in _CHAVEZ2021.items()
        for task, values in zip(_TASKS, entries, strict=False)
    }
}
#: Grey levels per channel, as bits, of the images behind a published table.
BITS = {"chavez2021": 5}
TITLES = {"chavez2021": "Chávez et al. 2021, Table 1"}


def table_of(reference: str | None) -> dict[tuple[str, str], Published]:
    """(task, solver) -> published entry; empty without a reference.

    Raises:
        UnknownNameError: no such published table.
    """
    if reference is None:
        return {}
    if reference not in TABLES:
        raise UnknownNameError("reference", reference, TABLES)
    return TABLES[reference]
