"""`python -m benchmarks [--quick] [--only NAME ...] [--device cuda] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.cases import SUITES
from benchmarks.model import Options, Part, say
from flowprior.errors import FlowpriorError, UnknownNameError, one_line_errors

#: In the order in which they run; the last only with --results.
PARTS = (
    "inversion",
    "quality",
    "precision",
    "training",
    "peers",
    "whole_task",
    "defaults",
    "memory",
    "depth",
    "folds",
    "records",
    "workflow_share",
)
#: Those that a GPU can run; the others are of the CPU, whatever the device.
ON_GPU = ("inversion", "quality", "precision", "training")
_DEFAULT_OUT = Path(__file__).parent / "results"


def chosen(only: Sequence[str] | None, results: Path | None, device: str = "cpu") -> tuple[str, ...]:
    """The parts to run.

    Raises:
        UnknownNameError: a part of such a name there is none; the nearest is named.
        FlowpriorError: `workflow_share` without results, or a part of the CPU on another device.
    """
    for name in only or ():
        if name not in PARTS:
            raise UnknownNameError("benchmark", name, PARTS)
    if only and "workflow_share" in only and results is None:
        raise FlowpriorError("workflow_share needs a finished run: --results results/<experiment>")
    if device != "cpu":
        if other := [name for name in only or () if name not in ON_GPU]:
            raise FlowpriorError(f"{other[0]} runs on the CPU, got --device {device}; leave it out of --only")
        return tuple(name for name in ON_GPU if not only or name in only)
    return tuple(name for name in PARTS if (name in only if only else name != "workflow_share" or results is not None))


def measure(name: str, options: Options) -> Part:
    """Run one part."""
    # Imported alone: a part is not to need what only another one uses.
    run: Callable[[Options], Part] = importlib.import_module(f"benchmarks.{name}").run
    return run(options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write after each part what is known so far."""
    options, names = _parsed(arguments)
    from benchmarks import table
    from benchmarks.accelerator import about as about_gpu
    from benchmarks.accelerator import device_named
    from benchmarks.machine import machine
    from flowprior.device import use_tensor_cores

    device = device_named(options.device)
    use_tensor_cores(device)
    say("machine")
    about = machine()
    ceiling = about["matmul_gflops"]["all_threads"]
    if device.type == "cuda":
        about["accelerator"] = about_gpu(device)
        ceiling = about["accelerator"]["matmul_gflops"]["tf32"]
    parts: dict[str, Part] = {}
    for name in names:
        say(name)
        started = time.perf_counter()
        part = measure(name, replace(options, ceiling=ceiling))
        parts[name] = replace(part, seconds=round(time.perf_counter() - started, 1))
        say(f"  {parts[name].seconds:.0f} s")
        report = table.write(options.out, about, options.quick, parts)
    print(table.markdown(about, options.quick, parts))
    drawn = "no plots: matplotlib is not installed"
    if importlib.util.find_spec("matplotlib") is not None:
        from benchmarks import plots

        drawn = f"{len(plots.draw(report, options.out))} plots"
    say(f"KernelProgram to {options.out}: bench.json, bench.md, {drawn}.")


def _parsed(arguments: Sequence[str] | None) -> tuple[Options, tuple[str, ...]]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios of speed within one run.")
    parser.add_argument("--quick", action="store_true", help="smaller problems: under three minutes on two idle cores")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"parts to run, of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=_DEFAULT_OUT, metavar="FOLDER", help="where results are written")
    parser.add_argument("--flow", type=Path, metavar="FOLDER", help="quality: a trained flow, with --images")
    parser.add_argument("--images", type=Path, metavar="FILE", help="quality: its test images, uint8 (N, H, W, 3) .npy")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="workflow_share: results of a finished run")
    parser.add_argument("--device", default="cpu", help=f"cpu, or cuda for {', '.join(ON_GPU)}; default: cpu")
    parser.add_argument("--suite", choices=tuple(SUITES), help="inversion: its cases; default: by device and --quick")
    given = parser.parse_args(arguments)
    names = chosen(given.only, given.results, given.device)
    given.out.mkdir(parents=True, exist_ok=True)
    return Options(given.quick, given.out, given.flow, given.images, given.results, given.device, given.suite), names


if __name__ == "__main__":
    with one_line_errors("benchmarks"):
        main()
