"""Records of the experiment as MLflow runs. A server out of reach is said, and stops nothing."""

import json
import sys
from pathlib import Path

from flowprior.files import replacing
from flowprior.params import Experiment
from flowprior.progress import job_output
from flowprior.provenance.source import commit
from flowprior.records import records_of
from flowprior.tracking import TrackingError, publish

with job_output(snakemake.log[0]):
    experiment = Experiment.model_validate(snakemake.params.experiment)
    try:
        done = publish(records_of(experiment), Path.cwd(), commit(Path.cwd()).name)
        outcome = {"status": "published", "uri": done.uri, "runs": done.runs}
        print(f"{done.new} new of {len(done.runs)} runs in {done.uri}", file=sys.stderr)
    except TrackingError as error:
        outcome = {"status": "pending", "reason": str(error)}
        print(
            f"flowprior: {error}; the records stay in results/{experiment.name}, send them later by: "
            f"make publish PARAMS=params/{experiment.name}.yaml",
            file=sys.stderr,
        )
    with replacing(snakemake.output.published) as part:
        part.write_text(json.dumps(outcome, indent=2) + "\n")
