"""Which flows, image sizes and batches are searched, on a CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

#: `map` as a fixed number of Adam's steps under the noise as it is given: what benchmarks compare takes equal steps.
FIXED: dict[str, Any] = {"optimiser": "adam", "tolerance": 0.0, "tempering": 0.0}
_DEFAULT = {"levels": 4, "steps": 6, "hidden": 48}
TALL = {"levels": 4, "steps": 8, "hidden": 48}


@dataclass(frozen=True)
class Case:
    """One flow, image size and batch, and what is searched: latents or images."""

    flow: str
    settings: dict[str, Any]
    size: int = 32
    batch: int = 32
    objective: Literal["latent", "image"] = "latent"
    at_least: float | None = None
    group: str = "flows"
    contenders: tuple[str, ...] = ("plain", "frozen", "flowprior")

    @property
    def shape(self) -> str:
        """The flow with its settings."""
        return f"{self.flow} ({', '.join(f'{key} {value}' for key, value in self.settings.items())})"

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.shape}, {self.size} px, batch {self.batch}, {self.objective}"


@dataclass(frozen=True)
class Suite:
    """The cases of a run: flows each by itself, then sizes and batches each in one set of turns.

    Attributes:
        flows: one case for each.
        sizes: one flow at several image sizes, the smallest first.
        batches: one flow at several batches.
        turns: about how many seconds a timed run lasts, and how many there are of each contender.
        scaling_at_most: image size -> what an image of it may cost over one of the smallest.
    """

    flows: tuple[Case, ...]
    sizes: tuple[Case, ...]
    batches: tuple[Case, ...]
    turns: tuple[float, int]
    scaling_at_most: Mapping[int, float] = field(default_factory=dict)


_FLOWS = (
    Case("haar_glow", _DEFAULT, at_least=3.0),
    Case("haar_glow", _DEFAULT, objective="image", at_least=3.0),
    Case("glow", {"levels": 3, "steps": 4, "hidden": 64}),
    Case("chavez", {"steps": 2, "hidden": 128}, at_least=4.0),
    Case("chavez", {"steps": 2, "hidden": 512}, at_least=4.0),
)


def _sizes(contenders: tuple[str, ...], batches: dict[int, int]) -> tuple[Case, ...]:
    return tuple(Case("haar_glow", TALL, *entry, group="sizes", contenders=contenders) for entry in batches.items())


def _batches(contenders: tuple[str, ...], batches: tuple[int, ...]) -> tuple[Case, ...]:
    return tuple(Case("haar_glow", _DEFAULT, batch=batch, group="batches", contenders=contenders) for batch in batches)


_PAIR = ("plain", "flowprior")
# A batch for each size: as many images as fill the vector lanes of every thread of a small machine.
CPU = Suite(_FLOWS, _sizes(_PAIR, {32: 64, 64: 32, 128: 32}), _batches(_PAIR, (1, 8, 32, 64, 128)), (1.5, 7), {64: 4.5})
CPU_QUICK = Suite(_FLOWS, CPU.sizes[:2], tuple(case for case in CPU.batches if case.batch != 64), (0.25, 3), {64: 4.5})

_TRIO = ("plain", "flowprior", "flowprior, bf16")
# What is launched one by one, and what as a graph, differ most where batches are small.
GPU = Suite(
    tuple(
        replace(case, batch=512, at_least=None, contenders=("plain", "frozen", "unrolled", "flowprior", *_TRIO[2:]))
        for case in _FLOWS
    ),
    _sizes(_TRIO, {32: 512, 64: 256, 128: 64}),
    _batches(_TRIO, (1, 32, 512, 4096)),
    (0.5, 3),
)
GPU_QUICK = Suite(GPU.flows[:1] + GPU.flows[-1:], GPU.sizes[:2], GPU.batches[:3], (0.25, 3))


#: A look at whether everything runs, in half a minute.
CPU_SMALL = Suite(
    tuple(replace(case, batch=16, at_least=None) for case in (_FLOWS[0], _FLOWS[3])), CPU.sizes[:1], (), (0.1, 2)
)

SUITES = {"cpu": CPU, "cpu_quick": CPU_QUICK, "cpu_small": CPU_SMALL, "gpu": GPU, "gpu_quick": GPU_QUICK}


def suite_for(gpu: bool, quick: bool) -> Suite:
    """The cases of a run of which no others were asked for."""
    return SUITES[("gpu" if gpu else "cpu") + ("_quick" if quick else "")]
