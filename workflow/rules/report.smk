# One self-contained page, and its figures and tables as files that stand in a paper as they are.
rule report:
    input:
        rows=rules.evaluate.output.rows,
        traces=rules.evaluate.output.traces,
        summary=rules.evaluate.output.summary,
        paired=rules.evaluate.output.paired,
        sets=rules.evaluate.output.sets,
        metrics=rules.evaluate.output.metrics,
        weights=every_training("weights"),
        configs=every_training("config"),
        histories=every_training("history"),
        samples=every_training("samples"),
        measurements=expand(
            rules.measure.output.measurement, task=EXPERIMENT.tasks, split=["test"]
        ),
        reconstructions=every_job(rules.reconstruct.output.images),
        maps=every_job(rules.reconstruct.output.maps),
        studies=every_study("figure"),
        images=rules.prepare.output.test,
        manifest=rules.prepare.output.manifest,
    output:
        **left_by(
            "report",
            page=shown(
                caption="../report/report.rst",
                category="Results",
                labels={"table": "report"},
            ),
            # Kept until the new one is whole: this very file may be the --configfile of the run, and jobs read it again.
            settings=update,
        ),
        figures=[
            report(
                f"{RESULTS}/figures/{name}.png",
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": name},
            )
            for name in figure_names(EXPERIMENT)
        ],
        vector=[f"{RESULTS}/figures/{name}.pdf" for name in figure_names(EXPERIMENT)],
        tables=expand(
            f"{RESULTS}/tables/{{name}}.{{kind}}",
            name=table_names(EXPERIMENT),
            kind=["csv", "tex"],
        ),
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{BENCHMARKS}/report.tsv"
    conda:
        "../envs/flowprior.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        experiment=EXPERIMENT.model_dump(mode="json"),
        asked=ASKED.model_dump(mode="json"),
        skipped=SKIPPED,
    message:
        "Write the report"
    script:
        "../scripts/report.py"
