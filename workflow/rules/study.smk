# Questions beside the tables: of a model, or of all rows. Each leaves its numbers and its figure.
rule study:
    input:
        unpack(study_files),
    output:
        **left_by(
            "study",
            figure=shown(
                caption="../report/study.rst",
                category="Studies",
                labels={"figure": "{study}"},
            ),
        ),
    log:
        f"{LOGS}/study/{{study}}.log",
    benchmark:
        f"{BENCHMARKS}/study/{{study}}.tsv"
    wildcard_constraints:
        study=either(EXPERIMENT.studies),
    conda:
        "../envs/flowprior.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
        gpu=0,
    params:
        study=lambda wildcards: settled(
            EXPERIMENT.studies[wildcards.study].model_dump()
        ),
        tasks=study_tasks,
        seed=EXPERIMENT.seed,
        number=EXPERIMENT.test_images,
    message:
        "Study {wildcards.study}"
    script:
        "../scripts/study.py"
