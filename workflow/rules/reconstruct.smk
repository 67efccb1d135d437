# One job per task, method, prior, split and chunk of settings, over all images of the split.
rule reconstruct:
    input:
        unpack(prior_files),
        unpack(images_of),
        measurement=rules.measure.output.measurement,
    output:
        **left_by("reconstruct"),
    log:
        f"{LOGS}/reconstruct/{{task}}/{{method}}/{{prior}}/{{split}}/{{chunk}}.log",
    benchmark:
        f"{BENCHMARKS}/reconstruct/{{task}}/{{method}}/{{prior}}/{{split}}/{{chunk}}.tsv"
    conda:
        "../envs/flowprior.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(120),
        gpu=0,
    params:
        experiment=EXPERIMENT.name,
        dataset=lambda wildcards: EXPERIMENT.dataset_of(wildcards.split),
        task_name=lambda wildcards: wildcards.task,
        task=lambda wildcards: settled(EXPERIMENT.tasks[wildcards.task].problem()),
        method=lambda wildcards: wildcards.method,
        solver=lambda wildcards: EXPERIMENT.solver_of(wildcards.method),
        prior=lambda wildcards: wildcards.prior,
        points=points_of,
        split=lambda wildcards: wildcards.split,
        number=lambda wildcards: EXPERIMENT.images_of(wildcards.method, wildcards.split),
        batch=EXPERIMENT.batch,
        bits=EXPERIMENT.bits,
        seed=EXPERIMENT.seed,
    message:
        (
            "Solve {wildcards.task} by {wildcards.method} (prior {wildcards.prior}), "
            f"{{wildcards.split}} images, settings {{wildcards.chunk}} {ASKS}"
        )
    script:
        "../scripts/reconstruct.py"
