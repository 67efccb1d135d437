# All rows of all jobs, selection on validation images, statistics on test images.
rule evaluate:
    input:
        rows=every_job(rules.reconstruct.output.rows),
        traces=every_job(rules.reconstruct.output.traces),
        histories=expand(rules.train.output.history, prior=EXPERIMENT.flows),
    output:
        **left_by(
            "evaluate",
            summary=shown(
                caption="../report/summary.rst",
                category="Results",
                labels={"table": "summary"},
            ),
            paired=shown(
                caption="../report/paired.rst",
                category="Results",
                labels={"table": "paired differences"},
            ),
        ),
    log:
        f"{LOGS}/evaluate.log",
    benchmark:
        f"{BENCHMARKS}/evaluate.tsv"
    conda:
        "../envs/flowprior.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        experiment=EXPERIMENT.model_dump(mode="json"),
    message:
        "Evaluate"
    script:
        "../scripts/evaluate.py"
