"""The colour photographs inside the scikit-image wheel, cut into patches: no download, no account.

Everyday colour photographs only: test patches come from two photographs that nothing else sees, training and
validation patches from disjoint regions of three others. Pictures taken by a microscope, a fundus camera or a
telescope are left out, as their statistics are others, and so is the second picture of the stereo pair, which
shows the same scene as the first. See docs/data.md.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from flowprior.errors import FlowpriorError
from flowprior.images import checksums, decode
from flowprior.images.download import staging
from flowprior.images.settings import SPLITS
from flowprior.images.source import Source

#: File -> sha256, as scikit-image publishes it.
PHOTOGRAPHS = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
}
SUMS = "SHA256SUMS"
#: Training patches unless `data.train` says otherwise.
TRAIN = 20_000
#: Reductions from which training patches come, in equal numbers.
TRAIN_SCALES = (1.5, 2.0, 3.0)
#: Side of what a validation or test patch shows of its photograph, in pixels: 32-pixel patches are reduced 4 times.
SHOWN = 128


@dataclass(frozen=True)
class Region:
    """A part of a photograph that belongs to one split, in pixels of the photograph.

    Attributes:
        file: of the photograph.
        split: it belongs to.
        box: left, top, right, bottom; multiples of 24, so that every scale divides them.
    """

    file: str
    split: str
    box: tuple[int, int, int, int]

    def scaled(self, scale: float) -> tuple[int, int, int, int]:
        """The box in pixels of the photograph reduced by `scale`."""
        left, top, right, bottom = (round(edge / scale) for edge in self.box)
        return left, top, right, bottom


#: Two whole photographs are the test set; of the others the right quarter is for validation, with 24 pixels
#: between it and the training part.
REGIONS = (
    Region("astronaut.png", "train", (0, 0, 336, 504)),
    Region("motorcycle_left.png", "train", (0, 0, 528, 480)),
    Region("rocket.jpg", "train", (0, 0, 456, 408)),
    Region("astronaut.png", "validation", (360, 0, 504, 504)),
    Region("motorcycle_left.png", "validation", (552, 0, 720, 480)),
    Region("rocket.jpg", "validation", (480, 0, 624, 408)),
    Region("chelsea.png", "test", (0, 0, 432, 288)),
    Region("coffee.png", "test", (0, 0, 600, 384)),
)


@dataclass(frozen=True)
class Patch:
    """Where a patch comes from: position in the photograph reduced by `scale`."""

    region: Region
    scale: float
    left: int
    top: int

    @property
    def name(self) -> str:
        """Photograph, scale and position, for example 'coffee@1.5x+32+64'."""
        return f"{Path(self.region.file).stem}@{self.scale:g}x+{self.left}+{self.top}"

    def footprint(self, side: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of what it shows, in pixels of the photograph itself."""
        left, top = self.left * self.scale, self.top * self.scale
        return left, top, left + side * self.scale, top + side * self.scale


class Photos(Source):
    """Patches of the bundled photographs; every patch's name tells photograph, scale and position.

    A region is cut out before it is reduced, so that no pixel of another region enters through the filter.
    """

    known_before_fetching = True

    def raw_files(self) -> list[str]:
        """The photographs, then the list of their checksums."""
        return [(Path(self.data.raw) / name).as_posix() for name in (*PHOTOGRAPHS, SUMS)]

    def fetch(self) -> None:
        """Copy the photographs byte by byte from the installed scikit-image; write the list of checksums."""
        self.no_checksum_expected()
        if self.data.path is not None:
            return self.check()
        wheel = _wheel_folder()
        raw = Path(self.data.raw)
        with staging(raw) as place:
            for name, digits in PHOTOGRAPHS.items():
                if not (wheel / name).is_file():
                    raise FlowpriorError(f"no {name} in {wheel}; reinstall scikit-image")
                (place / name).write_bytes((wheel / name).read_bytes())
                checksums.verify(place / name, f"sha256:{digits}", shown=str(wheel / name))
            (place / SUMS).write_text("".join(f"{digits}  {name}\n" for name, digits in PHOTOGRAPHS.items()))
            for name in (*PHOTOGRAPHS, SUMS):
                (place / name).replace(raw / name)

    def check(self) -> None:
        """See that all photographs are there."""
        self.no_checksum_expected()
        for path in self.raw_files():
            if not Path(path).is_file() and not path.endswith(SUMS):
                raise FlowpriorError(
                    f"no photograph at {path}; leave data.path out, and the workflow (or "
                    "flowprior.images.fetch) copies it from scikit-image"
                )

    def expected_checksum(self, path: str) -> str | None:
        """The published checksum of a photograph."""
        digits = PHOTOGRAPHS.get(checksums.base_name(path))
        return f"sha256:{digits}" if digits else None

    def checksums(self) -> dict[str, str]:
        """Of the photographs; a changed one is an error."""
        raw = Path(self.data.raw)
        return {name: checksums.verify(raw / name, self.expected_checksum(name)) for name in PHOTOGRAPHS}

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the patches; any first few are spread evenly over photographs, scales and positions."""
        names: dict[str, list[str]] = {split: [] for split in SPLITS}
        for patch in self._patches.values():
            names[patch.region.split].append(patch.name)
        return {split: tuple(listed) for split, listed in names.items()}

    def pixels(self, name: str) -> np.ndarray:
        """One patch, cut from its reduced region."""
        patch, side = self._patches[name], self.data.resolution
        region = self._reduced(patch.region, patch.scale)
        left, top, _, _ = patch.region.scaled(patch.scale)
        row, column = patch.top - top, patch.left - left
        return region[row : row + side, column : column + side]

    @cached_property
    def _patches(self) -> dict[str, Patch]:
        side, wanted = self.data.resolution, self.data.train or TRAIN
        found = list(itertools.islice(training_patches(side), wanted))
        for split in ("validation", "test"):
            found += grid_patches(split, side)
        return {patch.name: patch for patch in found}

    @cached_property
    def _cache(self) -> dict[tuple[Region, float], np.ndarray]:
        return {}

    def _reduced(self, region: Region, scale: float) -> np.ndarray:
        if (region, scale) not in self._cache:
            with Path(self.data.raw, region.file).open("rb") as file:
                part = decode.open_rgb(file).crop(region.box)
            left, top, right, bottom = region.scaled(scale)
            size = (right - left, bottom - top)
            self._cache[region, scale] = np.asarray(part.resize(size, Image.Resampling.BILINEAR))
        return self._cache[region, scale]


def grid_patches(split: str, side: int) -> list[Patch]:
    """The patches of validation or test: every cell of a grid of half a patch's side, none left out as flat.

    Their order is the multiplicative (golden ratio) one: any first few are spread evenly over all.
    """
    scale, step = max(1.0, SHOWN / side), side // 2
    cells = []
    for region in REGIONS:
        if region.split == split:
            left, top, right, bottom = region.scaled(scale)
            cells += [
                Patch(region, scale, x, y)
                for y in range(top, bottom - side + 1, step)
                for x in range(left, right - side + 1, step)
            ]
    order = sorted(range(len(cells)), key=lambda i: (i * 2654435769) % 2**32)
    return [cells[i] for i in order]


def training_patches(side: int) -> Iterator[Patch]:
    """Training patches, overlapping but distinct, in turn from every region and scale that can hold one.

    Positions follow the R2 sequence (an additive recurrence with the plastic number, in 32-bit integers): no
    randomness, and any first few cover a region evenly.
    """
    places = [
        (region, scale, *region.scaled(scale))
        for region in REGIONS
        if region.split == "train"
        for scale in TRAIN_SCALES
    ]
    places = [place for place in places if min(place[4] - place[2], place[5] - place[3]) >= side]
    seen: set[Patch] = set()
    limit = 4 * sum((p[4] - p[2] - side + 1) * (p[5] - p[3] - side + 1) for p in places)
    # One sequence for all, so that no two regions or scales are cut at the same relative positions.
    for k in range(limit):
        region, scale, left, top, right, bottom = places[k % len(places)]
        x = left + ((k * 3242174889) % 2**32 * (right - left - side + 1) >> 32)
        y = top + ((k * 2447445414) % 2**32 * (bottom - top - side + 1) >> 32)
        patch = Patch(region, scale, x, y)
        if patch not in seen:
            seen.add(patch)
            yield patch


def _wheel_folder() -> Path:
    """The folder of scikit-image's bundled pictures, found without importing it."""
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise FlowpriorError("source 'photos' needs scikit-image, which is not installed; pip install scikit-image")
    return Path(found.submodule_search_locations[0]) / "data"
