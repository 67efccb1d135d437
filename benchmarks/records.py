"""Records as MLflow runs: how long it takes to publish many, and to find that all are there already."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.model import Options, Part, Row, Target, say
from flowprior.records.record import ImageSet, Record
from flowprior.records.solving import write_history
from flowprior.tracking import publish

_IMAGES, _POINTS, _SIDE = 192, 31, 32
_SECONDS, _COUNT = 180.0, 1000


def run(options: Options) -> Part:
    """Publish records like those of a sweep into a database of their own."""
    count = 100 if options.quick else _COUNT
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        records = [record_of(number) for number in range(count)]
        say(f"  {count} records")
        first = _seconds(records, place)
        again = _seconds(records, place)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / 1e6
    target = Target("at most", _SECONDS, judged=not options.quick)
    rows = (
        Row(f"{count} records", "first time", first, "s", target=target, note=f"{1000 * first / count:.0f} ms each"),
        Row(f"{count} records", "again", again, "s", note="nothing is new"),
    )
    notes = (
        f"Each with {len(records[0].metrics)} metrics, {len(records[0].curves)} curves of {_POINTS} points, a picture, "
        f"a table of {_IMAGES} images and its history, into SQLite and a folder; {size:.0f} MB in all.",
    )
    return Part("Records: publishing to MLflow", rows, notes)


def record_of(number: int) -> Record:
    """A record as a reconstruction has it, with numbers of its own."""
    source = np.random.default_rng(number)
    images = pd.DataFrame(
        {"image": [f"{i:06d}.jpg" for i in range(_IMAGES)], "psnr": source.normal(28, 2, _IMAGES), "status": "ok"}
    )
    history = pd.DataFrame(source.normal(size=(_IMAGES * _POINTS, 6)), columns=list("abcdef"))
    return Record(
        group="benchmark/photos-32px",
        kind="reconstruction",
        name=f"denoising chavez alpha={number}",
        key=f"benchmark/denoising/chavez/haar_glow/alpha={number}",
        settings={
            **{"task": "denoising", "method": "chavez", "setting": f"alpha={number}", "alpha": str(number)},
            **{f"setting_{i}": str(i) for i in range(16)},
        },
        metrics={f"metric_{i}": float(source.normal()) for i in range(17)} | {"psnr": float(images["psnr"].mean())},
        curves={
            f"trace/{name}": tuple((5 * i, float(source.normal())) for i in range(_POINTS))
            for name in ("psnr", "loss", "data_fit", "neg_log_prob")
        },
        tags={f"tag_{i}": "value" for i in range(16)},
        inputs=(ImageSet("photos-32px test", "abcdef", "test", "prepared/photos/test.npy", _IMAGES),),
        artifacts={
            "reconstructions.png": partial(_picture, number),
            "history.csv": partial(write_history, history),
            "log.txt": partial(_text, "a line of a log\n" * 20),
        },
        tables={"images.json": lambda: images},
    )


def _picture(number: int, target: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 256, (3 * _SIDE, 8 * _SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((8 * 128, 3 * 128), Image.Resampling.NEAREST).save(target)


def _text(text: str, target: Path) -> None:
    target.write_text(text)


def _seconds(records: list[Record], place: Path) -> float:
    started = time.perf_counter()
    publish(records, place)
    return time.perf_counter() - started
