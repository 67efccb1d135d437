"""What a job says of itself when it is done: where it ran, of what it was made, and what it took."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flowprior.experiment.artefacts import INVOCATION
from flowprior.files import replacing
from flowprior.images.checksums import of_file
from flowprior.provenance.invocation import Invocation
from flowprior.provenance.machine import machine, versions
from flowprior.provenance.source import commit


@dataclass(frozen=True)
class JobFacts:
    """One job of the workflow.

    Attributes:
        rule: of the workflow.
        wildcards: that tell the job from others of its rule.
        started: UTC, ISO 8601.
        seconds: how long it took.
        peak_memory_mb: most resident memory of its process.
        gpu_memory_mb: most memory it held on a GPU; None without one, or where processes of its own held it.
        host: where it ran.
        device: what computed, such as "cpu (AMD EPYC)" or "cuda (NVIDIA H200)".
        threads: cores it was given.
        slurm_job: id of its Slurm job; None elsewhere.
        commit: of the source tree; None outside a repository.
        diff: sha256 of what was changed since that commit; None where nothing was, "unknown" where that is not known.
        versions: package -> version.
        inputs: file -> its checksum ("sha256:...").
        params: what the rule gave it, as JSON has it; None in results that are older than this entry.
        call: the call of the workflow that it ran in, as `flowprior.provenance.invocation` writes it; None: unknown.
    """

    rule: str
    wildcards: dict[str, str]
    started: str
    seconds: float
    peak_memory_mb: float
    gpu_memory_mb: float | None
    host: str
    device: str
    threads: int
    slurm_job: str | None
    commit: str | None
    diff: str | None
    versions: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] | None = None
    call: dict[str, str] | None = None

    @classmethod
    def read(cls, path: Path) -> JobFacts | None:
        """What `job_facts` wrote; None for results that are older than such files."""
        return cls(**json.loads(path.read_text())) if path.exists() else None


@contextmanager
def job_facts(job: Any, target: str | Path, gpu: bool = False) -> Iterator[None]:
    """Write a job's facts when the block ends well.

    Args:
        job: Snakemake's object in a script: rule, wildcards, input, params, threads.
        target: JSON file to write.
        gpu: whether the job computes on one.
    """
    # Of results/<experiment>: a later call must not claim a job that began before it.
    call = Invocation.read(Path(*Path(target).parts[:2]) / INVOCATION)
    began, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    yield
    source = commit(Path.cwd())
    facts = JobFacts(
        rule=str(job.rule),
        wildcards={str(name): str(value) for name, value in job.wildcards.items()},
        started=started,
        seconds=round(time.perf_counter() - began, 3),
        peak_memory_mb=round(_peak_memory() / 1e6, 1),
        gpu_memory_mb=_gpu_memory() if gpu else None,
        host=socket.gethostname(),
        device=device_name(gpu),
        threads=int(job.threads),
        slurm_job=os.environ.get("SLURM_JOB_ID"),
        commit=source.name,
        diff=source.diff,
        versions=versions(),
        inputs={str(path): of_file(path) for path in job.input},
        params=json.loads(json.dumps(dict(job.params.items()))),
        call=asdict(call) if call else None,
    )
    with replacing(target) as part:
        part.write_text(json.dumps(asdict(facts), indent=2) + "\n")


def device_name(gpu: bool) -> str:
    """What computes here, such as "cpu (AMD EPYC)": a GPU where one is asked for and there, else the processor."""
    if gpu:
        import torch

        if torch.cuda.is_available():
            return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu ({machine()['processor']})"


def _gpu_memory() -> float | None:
    import torch

    held = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return round(held / 1e6, 1) if held else None


def _peak_memory() -> float:
    """Bytes of resident memory that this process and those it waited for had at most."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return float(
        unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
