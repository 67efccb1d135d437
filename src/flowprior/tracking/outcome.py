"""One publication of an experiment's records, and the file that says how it ended."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flowprior.experiment.layout import Layout
from flowprior.experiment.params import Experiment
from flowprior.files import replacing
from flowprior.progress import Progress
from flowprior.records import records_of
from flowprior.tracking.publishing import publish
from flowprior.tracking.server import TrackingError


def publish_experiment(experiment: Experiment, root: Path, later: str) -> bool:
    """Publish every record that an experiment has; say and write how it ended.

    Args:
        experiment: what ran.
        root: the repository root.
        later: the command that publishes what could not be now.

    Returns:
        Whether it was possible. If not, nothing is lost: records are read from files whenever they are published.
    """
    layout = Layout(experiment, root)
    records = list(
        records_of(experiment, root, lambda reason: print(f"flowprior: no record: {reason}", file=sys.stderr))
    )
    progress = Progress(f"publish {experiment.name}", max(1, len(records)))
    try:
        done = publish(records, root, lambda count, _: progress.update(count))
    except TrackingError as error:
        outcome: dict[str, object] = {"status": "pending", "reason": str(error)}
        print(
            f"flowprior: {error}; the records stay in results/{experiment.name}, publish them later by: {later}",
            file=sys.stderr,
        )
    else:
        outcome = {"status": "published", "uri": done.uri, "runs": done.runs}
        print(f"{done.new} new of {len(done.runs)} runs in {done.uri}", file=sys.stderr)
        for model in done.models:
            print(f"registered {model}", file=sys.stderr)
        for remark in done.remarks:
            print(f"flowprior: {remark}", file=sys.stderr)
    with replacing(layout.published) as part:
        part.write_text(json.dumps(outcome, indent=2) + "\n")
    return outcome["status"] == "published"
