"""Test images and a flow to solve them with: the bundled photographs and a small flow trained on them, or yours."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.accelerator import device_named
from benchmarks.model import Options, say
from flowprior import images
from flowprior.errors import FlowpriorError
from flowprior.fingerprint import fingerprint
from flowprior.images.settings import DataSettings
from flowprior.images.store import ImageSet
from flowprior.models import flows
from flowprior.models.flows.base import Flow
from flowprior.models.flows.checkpoint import CONFIG, save_flow
from flowprior.training.loop import train
from flowprior.training.settings import TrainingSettings

#: As in params/demo.yaml.
_FLOW = {"levels": 3, "steps": 4, "hidden": 48}
_SIZE, _VALIDATION, _TEST = 32, 64, 48


@dataclass(frozen=True)
class Subject:
    """A trained flow, and images that it has never seen: uint8 (N, H, W, 3) with their names."""

    flow: Flow
    pixels: np.ndarray
    names: tuple[str, ...]
    bits: int
    about: str


def subject(options: Options, count: int) -> Subject:
    """The flow and the first `count` test images that a run works with.

    Raises:
        FlowpriorError: only one of flow and images was named, or they do not fit each other.
    """
    if options.flow is None and options.images is None:
        return _photographs(options, count)
    if options.flow is None or options.images is None:
        raise FlowpriorError("--flow and --images belong together: a flow, and test images that it was not trained on")
    flow = flows.load(options.flow)
    pixels = np.load(options.images, allow_pickle=False)[:count]
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or (pixels.shape[3], *pixels.shape[1:3]) != flow.shape:
        raise FlowpriorError(
            f"{options.images} holds {pixels.dtype} {pixels.shape}, the flow is for images {flow.shape}; "
            "give uint8 (N, H, W, C) of that shape"
        )
    bits = json.loads((options.flow / CONFIG).read_text()).get("bits", 8)
    about = f"Flow {options.flow.name} ({flow.name}, {bits} bits), {len(pixels)} images of {options.images.name}."
    return Subject(flow, pixels, tuple(f"{i}" for i in range(len(pixels))), bits, about)


def prepared(options: Options) -> tuple[str, dict[str, ImageSet]]:
    """The bundled photographs as patches, with the data set's key: training, validation and test."""
    limits = {"train": 2_000 if options.quick else 20_000, "validation": _VALIDATION, "test": _TEST}
    data = DataSettings(source="photos", resolution=_SIZE, **limits)
    folder = options.out / data.key
    manifest = folder / "manifest.json"
    if not manifest.exists():
        say("  preparing photographs")
        images.fetch(data)
        images.prepare(data, folder)
    return data.key, {split: images.load(folder / f"{split}.npy", manifest) for split in limits}


def _photographs(options: Options, count: int) -> Subject:
    key, splits = prepared(options)
    settings = TrainingSettings(
        steps=120 if options.quick else 1500,
        batch=64,
        learning_rate=3e-3,
        noise_std=0.012,
        warmup=30 if options.quick else 100,
        ema=0.98 if options.quick else 0.995,
        validate_every=120 if options.quick else 250,
    )
    facts = {"flow": _FLOW, "data": key, "training": settings.model_dump()}
    folder = options.out / f"flow-{settings.steps}-steps-{fingerprint(facts)}"
    if not (folder / CONFIG).exists():
        say(f"  training a flow, {settings.steps} steps")
        torch.manual_seed(0)
        device = device_named(options.device)
        flow = flows.build("haar_glow", (3, _SIZE, _SIZE), **_FLOW).to(device)
        workers = torch.get_num_threads() if device.type == "cpu" else 1
        seen, unseen = splits["train"].pixels, splits["validation"].pixels
        trained = train(flow, seen, unseen, 8, settings, (0, "train"), workers=workers)
        save_flow(folder, trained.model, {**trained.facts, "bits": 8})
    flow = flows.load(folder)
    facts = json.loads((folder / CONFIG).read_text())
    test = splits["test"]
    about = (
        f"haar_glow ({', '.join(f'{key} {value}' for key, value in _FLOW.items())}) trained on photographs for "
        f"{facts['steps']} steps ({facts['bits_per_dim']:.2f} bits per dimension), {count} test patches."
    )
    return Subject(flow, test.pixels[:count], test.names[:count], 8, about)
