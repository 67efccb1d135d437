"""The report of a run as a Markdown table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.model import Part, Row
from flowprior.files import replacing

_HEAD = ("case", "contender", "measured", "ratio", "target", "")


def write(folder: Path, machine: Mapping[str, Any], quick: bool, parts: Mapping[str, Part]) -> dict[str, Any]:
    """Write `bench.json` and `bench.md`; returns what the JSON holds."""
    report = {
        "machine": dict(machine),
        "mode": "quick" if quick else "full",
        "parts": {name: part.as_dict() for name, part in parts.items()},
    }
    with replacing(folder / "bench.json") as path:
        path.write_text(json.dumps(report, indent=1) + "\n")
    with replacing(folder / "bench.md") as path:
        path.write_text(markdown(machine, quick, parts))
    return report


def markdown(machine: Mapping[str, Any], quick: bool, parts: Mapping[str, Part]) -> str:
    """The whole report as Markdown."""
    lines = ["# Benchmark", "", *_about(machine, quick)]
    for name, part in parts.items():
        lines += ["", f"## {name}: {part.title}", "", *table(part.rows)]
        lines += ["", *(f"- {note}" for note in part.notes)] if part.notes else []
    return "\n".join(lines) + "\n"


def table(rows: tuple[Row, ...]) -> list[str]:
    r"""Rows as a Markdown table; a case is named once.

    Example:
        >>> print("\n".join(table((Row("a", "plain", 1234.5, "images/s", (1200, 1300)),))))
        | case | contender | measured | ratio | target |  |
        |---|---|---|---|---|---|
        | a | plain | 1230 images/s (1200 to 1300) |  |  |  |
    """
    lines = [_line(_HEAD), _line(("---",) * len(_HEAD), "")]
    before = None
    for row in rows:
        cells = (row.case if row.case != before else "", row.contender, _measured(row), _ratio(row), _target(row))
        lines.append(_line((*cells, row.note)))
        before = row.case
    return lines


def number(value: float) -> str:
    """Three digits.

    Example:
        >>> number(0.01234), number(3.14159), number(123456)
        ('0.0123', '3.14', '123000')
    """
    shown = f"{value:.3g}"
    return f"{float(shown):.0f}" if "e+" in shown else shown


def _line(cells: tuple[str, ...], space: str = " ") -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return "|" + "|".join(f"{space}{cell}{space}" for cell in escaped) + "|"


def _measured(row: Row) -> str:
    if row.value is None:
        return ""
    spread = (
        f" ({number(row.spread[0])} to {number(row.spread[1])})"
        if row.spread and row.spread[0] != row.spread[1]
        else ""
    )
    return f"{number(row.value)} {row.unit}{spread}"


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return ""
    spread = f" ({row.ratio.low:.2f} to {row.ratio.high:.2f})" if row.ratio.low != row.ratio.high else ""
    return f"**{row.ratio.value:.2f}** x {row.ratio.against}{spread}"


def _target(row: Row) -> str:
    return f"{row.target.kind} {row.target.value:g}: {row.verdict}" if row.target else ""


def _about(machine: Mapping[str, Any], quick: bool) -> list[str]:
    matmul, convolution, load = machine["matmul_gflops"], machine["best_convolution"], machine["load_before"][0]
    lanes = machine["kernel_lanes"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['vector_flags'])}), torch {machine['torch']}, "
        f"threads of torch: {machine['threads']}. "
        f"Kernel: {f'{lanes} lanes' if lanes else 'none, torch runs all flows'}.",
        f"Torch's float32 matrix product: {matmul['one_thread']:.0f} GFLOP/s on one thread, "
        f"{matmul['all_threads']:.0f} on all; its best 3x3 convolution: {convolution['gflops']:.0f} "
        f"({convolution['shape']}).",
        "Medians of rounds in turns (lowest to highest); a ratio is the median of the rounds' ratios.",
    ]
    if gpu := machine.get("accelerator"):
        speeds = ", ".join(f"{speed / 1e3:.0f} in {name}" for name, speed in gpu["matmul_gflops"].items())
        about = f"**{gpu['name']}**, {gpu['memory_gb']} GB, CUDA {gpu['cuda']}"
        lines.insert(0, f"{about}; matrix product, TFLOP/s: {speeds}. Beside it:")
    if quick:
        lines.append("Quick mode: small problems, few rounds; expect other figures from a full run.")
    if load > 0.5:
        lines.append(f"**The machine was not idle** (load {load:g} before the run): spreads are wide.")
    return lines
