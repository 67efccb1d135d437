# Raw images, then one uint8 array per split with a manifest.
if fetched(EXPERIMENT.data):

    rule download:
        output:
            RAW_FILES,
        log:
            f"{LOGS}/download.log",
        benchmark:
            f"{BENCHMARKS}/download.tsv"
        conda:
            "../envs/flowprior.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(120),
        params:
            data=raw_settings(EXPERIMENT.data),
        message:
            "Fetch the raw images"
        script:
            "../scripts/download.py"


rule prepare:
    input:
        raw=RAW_FILES if LISTING is None else ancient(RAW_FILES),
    output:
        **{name: f"{PREPARED}/{file}" for name, file in PREPARED_FILES.items()},
    log:
        f"{LOGS}/prepare.log",
    benchmark:
        f"{BENCHMARKS}/prepare.tsv"
    conda:
        "../envs/flowprior.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        data=EXPERIMENT.data.model_dump(exclude={"url"}),
        listing=LISTING,
    message:
        "Prepare images"
    script:
        "../scripts/prepare.py"


for source, data in FETCHED_SETS.items():

    rule:
        name:
            f"download_{source}"
        output:
            raw_files(data),
        log:
            f"{LOGS}/download_{source}.log",
        benchmark:
            f"{BENCHMARKS}/download_{source}.tsv"
        conda:
            "../envs/flowprior.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(120),
        params:
            data=raw_settings(data),
        message:
            "Fetch raw images for other test sets"
        script:
            "../scripts/download.py"


# The test images of another data set, which all methods solve and none learns from.
rule prepare_set:
    input:
        raw=raw_of_set,
    output:
        images=f"prepared/{{key}}/{PREPARED_FILES['test']}",
        manifest=f"prepared/{{key}}/{PREPARED_FILES['manifest']}",
    log:
        f"{LOGS}/prepare_set/{{key}}.log",
    benchmark:
        f"{BENCHMARKS}/prepare_set/{{key}}.tsv"
    wildcard_constraints:
        key=either(SETS),
    conda:
        "../envs/flowprior.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        data=lambda wildcards: SETS[wildcards.key].model_dump(exclude={"url"}),
        listing=listing_of_set,
        splits=["test"],
    message:
        "Prepare images of {wildcards.key}"
    script:
        "../scripts/prepare.py"
