"""One self-contained HTML page per experiment, and the figures and tables that stand in a paper as they are.

`report_files(experiment)` names every file without importing torch or matplotlib, so that a workflow can declare
them; `build(experiment, root)` writes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowprior.experiment.layout import Layout, report_files

if TYPE_CHECKING:
    from flowprior.report.page import build

__all__ = ["Layout", "build", "report_files"]


def __getattr__(name: str) -> Any:
    """Import `build`, and matplotlib with it, only when used."""
    if name == "build":
        from flowprior.report.page import build

        return build
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
