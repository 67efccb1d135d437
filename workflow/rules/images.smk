# Raw images, then one uint8 array per split with a manifest.
if fetched(EXPERIMENT):

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
