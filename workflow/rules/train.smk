# Priors: flows by maximum likelihood, and models that are made of the training images at once.
FITTED = fitted_priors(EXPERIMENT)


rule train:
    input:
        train=rules.prepare.output.train,
        validation=rules.prepare.output.validation,
        manifest=rules.prepare.output.manifest,
    output:
        weights=f"{RESULTS}/flows/{{prior}}/weights.safetensors",
        config=f"{RESULTS}/flows/{{prior}}/config.json",
        history=f"{RESULTS}/flows/{{prior}}/history.jsonl",
        samples=f"{RESULTS}/flows/{{prior}}/samples.npy",
        job=f"{RESULTS}/flows/{{prior}}/job.json",
        picture=report(
            f"{RESULTS}/flows/{{prior}}/samples.png",
            caption="../report/samples.rst",
            category="Flows",
            labels={"figure": "samples", "prior": "{prior}"},
        ),
    log:
        f"{LOGS}/train/{{prior}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{prior}}.tsv"
    wildcard_constraints:
        prior=either(EXPERIMENT.priors),
    # First, with all cores: everything that needs a flow waits for it.
    priority: 10
    conda:
        "../envs/flowprior.yaml"
    threads: HEAVY_THREADS
    resources:
        mem_mb=growing(6000),
        runtime=growing(240),
        gpu=0,
    params:
        prior=lambda wildcards: settled(EXPERIMENT.priors[wildcards.prior].model_dump()),
        bits=EXPERIMENT.bits,
        seed=EXPERIMENT.seed,
        name=lambda wildcards: f"{EXPERIMENT.name}/{wildcards.prior}",
    message:
        f"Train the flow {{wildcards.prior}} {ASKS}"
    script:
        "../scripts/train.py"


rule fit:
    input:
        train=rules.prepare.output.train,
        manifest=rules.prepare.output.manifest,
    output:
        fitted=f"{RESULTS}/flows/{{prior}}/{{prior}}.npz",
    log:
        f"{LOGS}/fit/{{prior}}.log",
    benchmark:
        f"{BENCHMARKS}/fit/{{prior}}.tsv"
    wildcard_constraints:
        prior=either(FITTED),
    conda:
        "../envs/flowprior.yaml"
    threads: HEAVY_THREADS
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    message:
        "Fit the {wildcards.prior} of the training images"
    script:
        "../scripts/fit.py"
