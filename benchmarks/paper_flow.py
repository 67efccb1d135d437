"""Train the paper's flow (`chavez`, width 512, 5 bits) for so many seconds: `python -m benchmarks.paper_flow`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.accelerator import device_named
from benchmarks.model import say
from flowprior.device import use_tensor_cores
from flowprior.errors import FlowpriorError, one_line_errors
from flowprior.files import replacing
from flowprior.models import flows
from flowprior.models.flows.base import Flow
from flowprior.models.flows.checkpoint import save_flow
from flowprior.training.loop import train
from flowprior.training.settings import TrainingSettings

BITS, KEY = 5, (2021, "train")
_SETTINGS = {"steps": 2, "hidden": 512}
_BATCH, _RATE = 128, 1e-3
#: Steps by which speed is judged, and the part of the time that the planned steps are to take.
_FIRST, _SHARE = 20, 0.85


@dataclass(frozen=True)
class Outcome:
    """What so much time gave: bits per dimension on validation images, and how many images were seen how fast."""

    device: str
    precision: str
    seconds: float
    steps: int
    batch: int
    images_per_second: float
    bits_per_dim: float


def learn(folder: Path, device: torch.device, seconds: float, precision: str, hidden: int, out: Path) -> Outcome:
    """Train on `train.npy` of a folder of prepared images and judge by `validation.npy`.

    Args:
        folder: of prepared images, uint8 (N, H, W, 3).
        device: where to train.
        seconds: about how long, of training alone.
        precision: float32 or bf16.
        hidden: channels inside the coupling networks; the paper's: 512.
        out: gets the checkpoint and `paper_flow.json`.

    Raises:
        FlowpriorError: the folder holds no such images.
    """
    pixels, validation = (_images(folder / f"{split}.npy") for split in ("train", "validation"))
    workers = torch.get_num_threads() if device.type == "cpu" else 1

    def trained(steps: int) -> tuple[Flow, dict[str, float]]:
        settings = TrainingSettings(
            steps=steps,
            batch=_BATCH,
            learning_rate=_RATE,
            warmup=min(200, steps // 10),
            ema=min(0.998, 1 - 10 / (steps + 10)),
            validate_every=steps,
            precision=precision,  # type: ignore[arg-type]
        )
        torch.manual_seed(KEY[0])
        fresh = flows.build("chavez", (pixels.shape[3], *pixels.shape[1:3]), **_SETTINGS | {"hidden": hidden})
        found = train(fresh.to(device), pixels, validation, BITS, settings, KEY, workers=workers)
        return found.model, found.facts | {"speed": found.history[-1]["images_per_second"]}

    # Twice: the first run also starts the device and chooses its convolutions.
    trained(2)
    _, first = trained(_FIRST)
    steps = max(_FIRST, int(_SHARE * seconds * first["speed"] / _BATCH))
    say(f"  {steps} steps of {_BATCH} images, {precision}, on {device}")
    flow, facts = trained(steps)
    outcome = Outcome(
        str(device), precision, facts["seconds"], steps, _BATCH, facts["speed"], round(facts["bits_per_dim"], 4)
    )
    save_flow(out / f"paper_flow_{precision}", flow, {"bits": BITS, **asdict(outcome)})
    with replacing(out / f"paper_flow_{precision}.json") as path:
        path.write_text(json.dumps(asdict(outcome), indent=1) + "\n")
    return outcome


def _images(path: Path) -> np.ndarray:
    try:
        pixels: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FlowpriorError(f"no prepared images at {path} ({error}); name a folder below prepared/") from None
    if pixels.ndim != 4 or pixels.dtype != np.uint8:
        raise FlowpriorError(f"{path} holds {pixels.dtype} {pixels.shape}; prepared images are uint8 (N, H, W, 3)")
    return pixels


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_flow", description=__doc__)
    parser.add_argument("folder", type=Path, help="prepared images: train.npy and validation.npy")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; default: cpu")
    parser.add_argument("--seconds", type=float, default=120.0, help="of training; default: 120")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="bf16", help="of the convolutions")
    parser.add_argument("--hidden", type=int, default=_SETTINGS["hidden"], help="channels inside the networks")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="where results are written")
    given = parser.parse_args(arguments)
    device = device_named(given.device)
    use_tensor_cores(device)
    given.out.mkdir(parents=True, exist_ok=True)
    found = learn(given.folder, device, given.seconds, given.precision, given.hidden, given.out)
    print(
        f"chavez, width {given.hidden}, {found.precision} on {found.device}: {found.bits_per_dim:.3f} bits per dim "
        f"after {found.steps} steps of {found.batch} in {found.seconds:.0f} s ({found.images_per_second:.0f} images/s)"
    )


if __name__ == "__main__":
    with one_line_errors("benchmarks"):
        main()
