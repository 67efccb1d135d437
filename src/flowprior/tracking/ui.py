"""MLflow's pages of the records, for this machine only."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from flowprior.errors import FlowpriorError
from flowprior.tracking.columns import VIEW
from flowprior.tracking.server import read, shown, tracking_uri


def serve(root: Path, port: int | None = None) -> None:
    """Serve MLflow's pages of the records to this machine only, until interrupted; a server's own are only named.

    Args:
        root: repository root.
        port: None: any free one.

    Raises:
        FlowpriorError: nothing was recorded yet, the port is taken, or the database is of another version of MLflow.
    """
    uri, pages = tracking_uri(root), pages_of(root)
    if uri.startswith("http"):
        _say(shown(uri), pages)
        return
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port or 0))
        except OSError:
            raise FlowpriorError(f"port {port} is taken; choose another, or none for a free one") from None
        port = probe.getsockname()[1]
    _say(f"http://127.0.0.1:{port}", pages, "  (ready in some seconds; Ctrl-C ends it)")
    # Only pages are wanted: one worker, and no runner of jobs beside it.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, *place]
    os.execv(sys.executable, command)  # in place of this program, so that it ends as a person ends it


def pages_of(root: Path) -> dict[str, str]:
    """Name of each recorded experiment -> its page, with the columns that tell methods apart.

    Raises:
        TrackingError: nothing was recorded yet, or what is in the way of looking.
    """
    with read(root) as uri:
        from mlflow.tracking import MlflowClient

        found = [group for group in MlflowClient(tracking_uri=uri).search_experiments() if group.name != "Default"]
    return {group.name: f"/#/experiments/{group.experiment_id}/runs?viewStateShareKey={VIEW}" for group in found}


def _say(address: str, pages: Mapping[str, str], more: str = "") -> None:
    for name, page in pages.items():
        print(f"{name}: {address.rstrip('/')}{page}", flush=True)
    print(f"everything: {address}{more}", flush=True)
