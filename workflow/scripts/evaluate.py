"""All rows of all jobs: selection on validation images, means, intervals, paired differences."""

import json
from pathlib import Path

import pandas as pd

from flowprior.evaluation import evaluate
from flowprior.evaluation.plots import plots_of
from flowprior.experiment.loading import experiment_from
from flowprior.experiment.origin import check_origin
from flowprior.experiment.plan import is_baseline, jobs
from flowprior.files import replacing
from flowprior.progress import job_output
from flowprior.report.results import read_history

with job_output(snakemake.log[0]):
    experiment = experiment_from(snakemake.params.experiment)
    output = snakemake.output
    parts = [pd.read_parquet(path) for path in snakemake.input.rows]
    for job, part, path in zip(jobs(experiment), parts, snakemake.input.rows, strict=True):
        check_origin(experiment, job, part, path)
    rows = pd.concat(parts, ignore_index=True)
    # Of the experiment, not of a solution: it may change without any being made again.
    rows["baseline"] = rows["method"].map({name: is_baseline(experiment, name) for name in experiment.methods})
    traces = pd.concat([pd.read_parquet(path) for path in snakemake.input.traces], ignore_index=True)
    summary, paired, metrics, sets = evaluate(rows, experiment.seed)
    for path, table in ((output.rows, rows), (output.traces, traces)):
        with replacing(path) as part:
            table.to_parquet(part, index=False)
    for path, table in ((output.summary, summary), (output.paired, paired), (output.sets, sets)):
        with replacing(path) as part:
            table.to_csv(part, index=False)
    histories = {Path(path).parent.name: read_history(Path(path)) for path in snakemake.input.histories}
    plots = plots_of(histories, rows, traces, summary)
    for name, table in plots._asdict().items():
        with replacing(output[f"plot_{name}"]) as part:
            table.to_csv(part, index=False, float_format="%.6g")
    with replacing(output.metrics) as part:
        part.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"{len(rows)} rows, {len(summary)} lines in {output.summary}")
