# The records of the experiment as MLflow runs. Jobs only write files; this one step talks to a tracking server.
rule publish:
    input:
        rows=rules.evaluate.output.rows,
        traces=rules.evaluate.output.traces,
        summary=rules.evaluate.output.summary,
        configs=every_training("config"),
        histories=every_training("history"),
        pictures=every_training("picture"),
        measurements=expand(
            rules.measure.output.measurement, task=EXPERIMENT.tasks, split=["test"]
        ),
        reconstructions=every_job(rules.reconstruct.output.images),
        images=rules.prepare.output.test,
        jobs=every_job(rules.reconstruct.output.job),
        report=rules.report.output.page,
    output:
        **left_by("publish"),
    log:
        f"{LOGS}/publish.log",
    benchmark:
        f"{BENCHMARKS}/publish.tsv"
    localrule: True
    conda:
        "../envs/flowprior.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        experiment=EXPERIMENT.model_dump(mode="json"),
    message:
        "Record the runs in MLflow"
    script:
        "../scripts/publish.py"
