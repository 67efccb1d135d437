"""Numbers that papers print, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flowprior.errors import UnknownNameError

#: 20 log10(255): a printed value p of Chávez 2021 means 2 p - 48.13 dB.
OFFSET = 20 * math.log10(255)


class Published(NamedTuple):
    """One entry of a published table; NaN where the paper gives no such number.

    Attributes:
        row: the paper's name of the method.
        psnr: true, in dB: mean over images.
        ssim: as printed.
        printed: PSNR as printed, where that is another number.
        psnr_std: standard deviation between images, in dB.
        ssim_std: the same of SSIM.
    """

    row: str
    psnr: float
    ssim: float = math.nan
    printed: float = math.nan
    psnr_std: float = math.nan
    ssim_std: float = math.nan


#: Who an entry is of: task, registered solver, and model; None: whatever the model.
Key = tuple[str, str, str | None]


@dataclass(frozen=True)
class Reference:
    """The tables of a paper, and the images behind them.

    Attributes:
        title: the paper and its tables.
        bits: grey levels per channel, as bits.
        side: of the images, in pixels.
        note: what its numbers are of.
        entries: of the experiment's own test images.
        sets: name of another test set -> its entries.
        printed: whether its PSNR is printed as another number, as Chávez 2021 does.
    """

    title: str
    bits: int
    side: int
    note: str
    entries: Mapping[Key, Published]
    sets: Mapping[str, Mapping[Key, Published]] = field(default_factory=dict)
    printed: bool = False

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
#: Tables I to III: model -> mean PSNR of each task, as far as it is printed. Table IV: of the first three, drawn faces.
_WEI_TASKS = ("denoising", "inpainting", "deblurring", "denoising_25", "inpainting_8", "deblurring_4")
_WEI_ROWS = {
    "resnet_prox": "ResNet Prox",
    "resnet_denoiser": "Pre-trained ResNet Prox",
    "unet_prox": "U-Net Prox",
    "unet_denoiser": "Pre-trained U-Net Prox",
    "glow_prox": "GLOW Prox",
    "glow_plugged": "Plug-and-play",
}
_WEI2022 = {
    "resnet_prox": (27.054, 34.010, 35.554, 25.489, 34.644, 35.358),
    "resnet_denoiser": (None, 33.216, 35.703),
    "unet_prox": (28.180, 35.157, 38.662, 25.770, 35.917, 38.034),
    "unet_denoiser": (None, 35.337, 38.046),
    "glow_prox": (28.236, 35.927, 40.549, 26.633, 36.634, 39.461),
    "glow_plugged": (8.112, 18.960, 23.141),
}
_WEI2022_DRAWN = {
    "resnet_prox": (21.746, 23.705, 25.007),
    "unet_prox": (22.587, 24.015, 26.224),
    "glow_prox": (22.102, 23.472, 27.419),
}


def _by_models(table: Mapping[str, tuple[float | None, ...]]) -> dict[Key, Published]:
    """Entries of Wei et al. 2022: unfolded networks, which are told apart by their models."""
    return {
        (task, "unfolded", model): Published(_WEI_ROWS[model], psnr)
        for model, values in table.items()
        for task, psnr in zip(_WEI_TASKS, values, strict=False)
        if psnr is not None
    }


#: Name -> what a paper prints. An experiment names its tasks, models and test sets as here to stand beside it.
REFERENCES: Mapping[str, Reference] = {
    "chavez2021": Reference(
        title="Chávez et al. 2021, Table 1",
        bits=5,
        side=32,
        note="Means over 192 test faces of CelebA.",
        printed=True,
        entries={
            (task, solver, None): Published(row, true_psnr(printed), ssim, printed)
            for solver, (row, entries) in _CHAVEZ2021.items()
            for task, (printed, ssim) in zip(_CHAVEZ_TASKS, entries, strict=False)
        },
    ),
    "oberlin2021": Reference(
        title="Oberlin & Verm 2021, Table 1",
        bits=8,
        side=64,
        note="Means over 50 test faces of CelebA and their standard deviation between images, by a Glow of 61 million "
        "parameters.",
        entries={
            (task, solver, None): Published(row, psnr, ssim, psnr_std=psnr_std, ssim_std=ssim_std)
            for task, entries in _OBERLIN2021.items()
            for (solver, row), (psnr, psnr_std, ssim, ssim_std) in zip(
                (("synthesis", "Synthesis"), ("analysis", "Analysis")), entries, strict=True
            )
        },
    ),
    "wei2022": Reference(
        title="Wei et al. 2022, Tables I to IV",
        bits=8,
        side=64,
        note="Mean PSNR over faces of CelebA-HQ, and over drawn faces, by a Glow of depth 18 in 4 levels: noise of .2 "
        "and .25, holes of 19 and 16 pixels, blurs of 5 and 8 pixels.",
        entries=_by_models(_WEI2022),
        sets={"drawn": _by_models(_WEI2022_DRAWN)},
    ),
}


def reference_of(name: str) -> Reference:
    """A paper's tables by its name.

    Raises:
        UnknownNameError: no such paper.
    """
    if name not in REFERENCES:
        raise UnknownNameError("reference", name, REFERENCES)
    return REFERENCES[name]
