"""All rows of all jobs: selection on validation images, means, intervals, paired differences."""

import json

import pandas as pd

from flowprior.evaluation import evaluate
from flowprior.files import replacing
from flowprior.params import experiment_from
from flowprior.progress import job_output

with job_output(snakemake.log[0]):
    experiment = experiment_from(snakemake.params.experiment)
    output = snakemake.output
    rows = pd.concat([pd.read_parquet(path) for path in snakemake.input.rows], ignore_index=True)
    traces = pd.concat([pd.read_parquet(path) for path in snakemake.input.traces], ignore_index=True)
    summary, paired, metrics = evaluate(rows, experiment.seed)
    for path, table in ((output.rows, rows), (output.traces, traces)):
        with replacing(path) as part:
            table.to_parquet(part, index=False)
    for path, table in ((output.summary, summary), (output.paired, paired)):
        with replacing(path) as part:
            table.to_csv(part, index=False)
    with replacing(output.metrics) as part:
        part.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"{len(rows)} rows, {len(summary)} lines in {output.summary}")
