# Priors: flows by maximum likelihood, and the Gaussian with the training images' mean and covariance.
GAUSSIAN_IF_NEEDED = (
    [f"{RESULTS}/flows/gaussian/gaussian.npz"]
    if any(job.prior == "gaussian" for job in JOBS)
    else []
)


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
        prior="|".join(EXPERIMENT.priors),
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


rule gaussian:
    input:
        train=rules.prepare.output.train,
        manifest=rules.prepare.output.manifest,
    output:
        gaussian=f"{RESULTS}/flows/gaussian/gaussian.npz",
    log:
        f"{LOGS}/gaussian.log",
    benchmark:
        f"{BENCHMARKS}/gaussian.tsv"
    conda:
        "../envs/flowprior.yaml"
    threads: HEAVY_THREADS
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    message:
        "Fit the Gaussian of the training images"
    script:
        "../scripts/gaussian.py"
