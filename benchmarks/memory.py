"""Peak memory of an inversion job over many images, each number of images in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from benchmarks.model import Options, Part, Row, Target, say
from flowprior.errors import FlowpriorError

_SIDE, _BATCH, _STEPS = 32, 64, 2
_LIMIT = 2.0
_FLOW = {"levels": 3, "steps": 2, "hidden": 16}
#: As the workflow sets them for its jobs.
_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "100000000",
    "OMP_WAIT_POLICY": "passive",
}


def run(options: Options) -> Part:
    """Solve ever more images."""
    counts = (200, 1000) if options.quick else (500, 2000, 10_000)
    rows, peaks = [], []
    for count in counts:
        say(f"  {count} images")
        facts = in_a_process("benchmarks.memory", count)
        peaks.append(facts["peak_gb"])
        target = Target("at most", _LIMIT, judged=not options.quick) if count == counts[-1] else None
        note = f"{facts['before_gb']:.2f} GB before the job's files are read"
        rows.append(
            Row(f"{count} images of 32x32", "flowprior", facts["peak_gb"], "GB", None, None, target, note, facts)
        )
    each = (peaks[-1] - peaks[0]) / (counts[-1] - counts[0]) * 1e9
    notes = [
        f"`inversion.invert` as a workflow job runs it: `map`, {_STEPS} steps, batches of {_BATCH}, one setting, "
        "one thread, files read and written.",
        f"Each image more costs {each / 1e3:.0f} kB; its measurement and truth alone are "
        f"{2 * 4 * 3 * _SIDE**2 / 1e3:.0f} kB.",
    ]
    if options.quick:
        notes.append("Quick: the target is for 10,000 images.")
    return Part("Peak resident memory of a job", tuple(rows), tuple(notes))


def in_a_process(module: str, *arguments: object) -> dict[str, float]:
    """What a module says, as JSON, when it is run in a process of its own with the workflow's memory settings.

    Raises:
        FlowpriorError: it failed.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    found = subprocess.run(
        command, cwd=Path(__file__).parents[1], env={**os.environ, **_ENVIRONMENT}, capture_output=True, text=True
    )
    if found.returncode:
        reason = found.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise FlowpriorError(f"{' '.join(command[2:])} ended with status {found.returncode}: {reason[0]}")
    facts: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return facts


def job(count: int) -> dict[str, float]:
    """One job over so many synthetic images, in this process; how much memory it took, in GB."""
    import numpy as np
    import torch

    from flowprior.experiment.inversion import Problem, invert
    from flowprior.models import flows

    torch.set_num_threads(1)
    flow = flows.build("haar_glow", (3, _SIDE, _SIDE), **_FLOW)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write_files(folder, count)
        before = resident("VmRSS")
        files = (folder / "y.npz", folder / "test.npy", folder / "manifest.json")
        found = invert(Problem.read(*files, _params(count)), flow, torch.device("cpu"))
        found.rows.to_parquet(folder / "rows.parquet", index=False)
        found.traces.to_parquet(folder / "traces.parquet", index=False)
        np.save(folder / "images.npy", found.images)
    return {"images": count, "before_gb": before / 1e9, "peak_gb": resident("VmHWM") / 1e9}


def _write_files(folder: Path, count: int) -> None:
    """Images, their manifest and measurements, made by another process: its memory is not the job's."""
    program = f"""
import json, numpy as np
source, names = np.random.default_rng(0), [str(i) for i in range({count})]
pixels = source.integers(0, 256, ({count}, {_SIDE}, {_SIDE}, 3), dtype=np.uint8)
np.save("test.npy", pixels)
y = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
np.savez("y.npz", y=y, names=np.array(names))
open("manifest.json", "w").write(json.dumps({{"splits": {{"test": {{"names": names}}}}}}))
"""
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True)


def _params(count: int) -> SimpleNamespace:
    """What Snakemake hands a job."""
    settings = {"steps": _STEPS, "noise_std": 0.1, "learning_rate": 0.01}
    return SimpleNamespace(
        **{"experiment": "benchmark", "dataset": "synthetic", "split": "test", "number": count, "bits": 8, "seed": 0},
        **{"task_name": "denoising", "task": {"operator": "identity", "noise_std": 0.1}, "batch": _BATCH},
        **{"method": "map", "solver": "map", "prior": "haar_glow"},
        points=[{"label": "", "settings": settings, "paper": False}],
    )


def resident(field: str) -> float:
    """Bytes of this process, now (VmRSS) or at its peak (VmHWM)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        # Kilobytes on Linux, bytes on macOS. Linux counts the parent's memory before exec, too, hence the file first.
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(used if sys.platform == "darwin" else 1024 * used)
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    print(json.dumps(job(int(sys.argv[1]))))
