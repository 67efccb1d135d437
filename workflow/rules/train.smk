# Priors: flows, models of other kinds, and those that are made of the training images at once.
GENERATORS = [
    one
    for one in EXPERIMENT.trainings()
    if one.task is None and one.prior not in EXPERIMENT.flows
]
FOR_ONE_TASK = [one for one in EXPERIMENT.trainings() if one.task is not None]
FITTED = fitted_priors(EXPERIMENT)


rule train:
    input:
        unpack(beginning),
        train=rules.prepare.output.train,
        validation=rules.prepare.output.validation,
        manifest=rules.prepare.output.manifest,
    output:
        **left_by(
            "train",
            picture=shown(
                caption="../report/samples.rst",
                category="Flows",
                labels={"figure": "samples", "prior": "{prior}"},
            ),
        ),
    log:
        f"{LOGS}/train/{{prior}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{prior}}.tsv"
    wildcard_constraints:
        prior=either(EXPERIMENT.flows),
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


# The same for models of other kinds, and for those that learn one task.
use rule train as train_model with:
    output:
        **left_by(
            "train_model",
            picture=shown(
                caption="../report/samples.rst",
                category="Models",
                labels={"figure": "samples", "prior": "{prior}"},
            ),
        ),
    log:
        f"{LOGS}/train_model/{{prior}}.log",
    benchmark:
        f"{BENCHMARKS}/train_model/{{prior}}.tsv"
    wildcard_constraints:
        prior=either(training.prior for training in GENERATORS),
    message:
        f"Train the model {{wildcards.prior}} {ASKS}"


use rule train as train_for_task with:
    output:
        **left_by(
            "train_for_task",
            picture=shown(
                caption="../report/samples.rst",
                category="Models",
                labels={"figure": "solutions", "prior": "{prior}", "task": "{task}"},
            ),
        ),
    log:
        f"{LOGS}/train_for_task/{{prior}}/{{task}}.log",
    benchmark:
        f"{BENCHMARKS}/train_for_task/{{prior}}/{{task}}.tsv"
    wildcard_constraints:
        prior=either(training.prior for training in FOR_ONE_TASK),
    params:
        prior=lambda wildcards: settled(EXPERIMENT.priors[wildcards.prior].model_dump()),
        bits=EXPERIMENT.bits,
        seed=EXPERIMENT.seed,
        name=lambda wildcards: f"{EXPERIMENT.name}/{wildcards.prior}",
        task=lambda wildcards: settled(EXPERIMENT.tasks[wildcards.task].problem()),
    message:
        f"Train the model {{wildcards.prior}} for {{wildcards.task}} {ASKS}"


rule fit:
    input:
        train=rules.prepare.output.train,
        manifest=rules.prepare.output.manifest,
    output:
        **left_by("fit"),
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
        mem_mb=fitting_mb,
        runtime=growing(30),
    message:
        "Fit the {wildcards.prior} of the training images"
    script:
        "../scripts/fit.py"
