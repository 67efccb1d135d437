# y = A x + noise, once per task and split: every method sees the same measurement.
rule measure:
    input:
        unpack(images_of),
    output:
        **left_by("measure"),
    log:
        f"{LOGS}/measure/{{task}}/{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/measure/{{task}}/{{split}}.tsv"
    # Before training: a measurement that cannot be made is found while nothing is lost.
    priority: 20
    conda:
        "../envs/flowprior.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        task=lambda wildcards: settled(EXPERIMENT.tasks[wildcards.task].problem()),
        task_name=lambda wildcards: wildcards.task,
        bits=EXPERIMENT.bits,
        seed=EXPERIMENT.seed,
        number=lambda wildcards: EXPERIMENT.measured_images(wildcards.split),
        dataset=lambda wildcards: EXPERIMENT.dataset_of(wildcards.split),
    message:
        "Measure {wildcards.task}, {wildcards.split} images"
    script:
        "../scripts/measure.py"
