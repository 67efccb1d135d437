"""One call of the workflow: what a person typed, and when."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from flowprior.files import replacing


@dataclass(frozen=True)
class Invocation:
    """A call of the workflow that had something to do.

    Attributes:
        name: unique, and in order of time.
        started: UTC, ISO 8601.
        command: as a person would type it.
    """

    name: str
    started: str
    command: str

    @classmethod
    def now(cls, arguments: Sequence[str]) -> Invocation:
        """The call of this moment.

        Args:
            arguments: of the program, its own path first.
        """
        moment = datetime.now(UTC)
        program = Path(arguments[0])
        # `python -m snakemake` has the module's file here.
        name = "snakemake" if program.name == "__main__.py" else program.name
        return cls(
            f"{moment:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}",
            moment.isoformat(timespec="seconds"),
            shlex.join([name, *arguments[1:]]),
        )

    @classmethod
    def read(cls, path: Path) -> Invocation | None:
        """What `write` wrote; None where nothing was."""
        return cls(**json.loads(path.read_text())) if path.exists() else None

    def write(self, path: Path) -> None:
        """As JSON."""
        with replacing(path) as part:
            part.write_text(json.dumps(asdict(self), indent=2) + "\n")
