# The experiment, checked once, and what several rules need.
import json
import os
import sys
from pathlib import Path

from snakemake.utils import validate

from flowprior.errors import USER_ERROR_STATUS, one_line_errors
from flowprior.images import listing, raw_files, raw_settings, source_of
from flowprior.experiment.loading import experiment_from, merged
from flowprior.experiment.parts import NO_PRIOR
from flowprior.experiment.pieces import model_facts, study_facts
from flowprior.experiment.plan import (
    check_names,
    fetched,
    fetched_sets,
    fitted_priors,
    jobs,
    without_missing_solvers,
)
from flowprior.progress import ERROR_SUFFIX
from flowprior.provenance.invocation import Invocation
from flowprior.experiment.artefacts import (
    LEAVES,
    PREPARED as PREPARED_FILES,
    folders,
    prepared_set,
)
from flowprior.experiment.layout import Layout, figure_names, table_names

# For the jobs' processes. Tensors of megabytes come and go thousands of times: glibc should keep their memory instead
# of giving it back each time (measured: up to 1.4 times the speed). Waiting threads should sleep, not spin.
for name, value in {
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "100000000",
    "OMP_WAIT_POLICY": "passive",
}.items():
    os.environ.setdefault(name, value)

# A person's mistake is one line and exit status 2, before any job starts.
with one_line_errors():
    # Read again by the strict reader: Snakemake's keeps the last of two equal keys, and drops the others without a word.
    ASKED = experiment_from(
        merged(
            workflow.overwrite_configfiles or ["params/demo.yaml"],
            workflow.config_settings.config,
        )
    )
    # As parsed: --config gives nested numbers as text.
    validate(
        ASKED.model_dump(mode="json"),
        "../schemas/experiment.schema.json",
        set_default=False,
    )
    check_names(ASKED)
    EXPERIMENT, SKIPPED = without_missing_solvers(ASKED)
    RAW_FILES = raw_files(EXPERIMENT.data)
    if workflow.is_main_process and not fetched(EXPERIMENT.data):
        source_of(EXPERIMENT.data).check()
    # Folder of its prepared images -> a set of other test images.
    SETS = {prepared_set(data.key): data for data in EXPERIMENT.test_sets.values()}
    # Source -> settings of raw images that only such sets ask for.
    FETCHED_SETS = fetched_sets(EXPERIMENT)
    for data in SETS.values() if workflow.is_main_process else ():
        if not fetched(data):
            source_of(data).check()
    # Images in sub-folders come and go without the folder's own time knowing.
    LISTING = None if fetched(EXPERIMENT.data) else listing(EXPERIMENT.data)

RESULTS = f"results/{EXPERIMENT.name}"
LOGS = f"logs/{EXPERIMENT.name}"
BENCHMARKS = f"{RESULTS}/benchmarks"
PREPARED = f"prepared/{EXPERIMENT.data.key}"
JOBS = jobs(EXPERIMENT)
# Learning uses every core of a small machine; a larger one shares.
HEAVY_THREADS = min(workflow.cores or 8, 8)
# What a heavy job asks for, behind what it says it does. GPUs come with a profile.
ASKS = "[{threads} threads, {resources.mem_mb} MB, {resources.runtime} min, {resources.gpu} GPU]"

if workflow.is_main_process:
    for method, reason in SKIPPED.items():
        print(f"flowprior: method '{method}' is left out: {reason}", file=sys.stderr)


def either(names):
    """What a wildcard may be, as an expression; of no names, nothing."""
    return "|".join(sorted(names)) or "(?!)"


wildcard_constraints:
    task=either(EXPERIMENT.tasks),
    method=either(EXPERIMENT.methods),
    prior=either({job.prior for job in JOBS} | set(EXPERIMENT.priors)),
    split=either(EXPERIMENT.solved_splits),
    chunk=r"\d+",


def left_by(rule, **flags):
    """The outputs of a rule, as they are declared; `flags`: what Snakemake is told of some of them."""
    return {
        name: flags.get(name, str)(f"{RESULTS}/{path}")
        for name, path in LEAVES[rule].patterns.items()
    }


def shown(**how):
    """A flag for what Snakemake's own report shows."""
    return lambda path: report(path, **how)


def growing(base):
    """A resource that is asked for again, larger, when a job is tried again."""
    return lambda wildcards, attempt: base * attempt


def fitting_mb(wildcards, attempt):
    """Memory for a Gaussian of colour images: three matrices in float64, and the program itself.

    They are of D x D, or of D x 2048 where the model takes images of any size.
    """
    dimensions = 3 * EXPERIMENT.data.resolution**2
    others = dimensions if model_facts(wildcards.prior).most_values else 2048
    return attempt * (1500 + 3 * 8 * dimensions * others // 10**6)


def settled(settings):
    """Settings in one order, so that a params file with its lines moved reruns nothing."""
    return json.loads(json.dumps(settings, sort_keys=True))


def every_job(pattern):
    """The files of one kind of all reconstruction jobs; never by looking what lies there."""
    return [pattern.format(**job._asdict()) for job in JOBS]


def every_training(kind):
    """The files of one kind of all trainings."""
    return [
        *expand(rules.train.output[kind], prior=EXPERIMENT.flows),
        *[rules.train_model.output[kind].format(prior=one.prior) for one in GENERATORS],
        *[
            rules.train_for_task.output[kind].format(**one._asdict())
            for one in FOR_ONE_TASK
        ],
    ]


def raw_of_set(wildcards):
    """What a set of other test images is prepared from: fetched, or a person's files, which are only read."""
    data = SETS[wildcards.key]
    return (
        raw_files(data)
        if fetched(data)
        else [ancient(path) for path in raw_files(data)]
    )


def listing_of_set(wildcards):
    """Changes with a person's images in sub-folders."""
    data = SETS[wildcards.key]
    return None if fetched(data) else listing(data)


def images_of(wildcards):
    """The images of a split or of another test set, with their manifest."""
    images, manifest = Layout(EXPERIMENT).images(wildcards.split)
    return {"images": images.as_posix(), "manifest": manifest.as_posix()}


def points_of(wildcards):
    """The settings that one reconstruction job runs."""
    chunk = EXPERIMENT.chunks(wildcards.method, wildcards.task)[int(wildcards.chunk)]
    return [settled(point._asdict()) for point in chunk]


def beginning(wildcards):
    """The weights of the model with which a training begins, if with any."""
    begin = EXPERIMENT.priors[wildcards.prior].begin
    if begin is None:
        return {}
    training, layout = EXPERIMENT.training_of(begin, ""), Layout(EXPERIMENT)
    return {
        f"begin_{name}": layout.trained(training, name).as_posix()
        for name in ("weights", "config")
    }


def prior_files(wildcards):
    """What the prior of a reconstruction job is read from."""
    if wildcards.prior == NO_PRIOR:
        return {}
    if wildcards.prior in FITTED:
        return {"fitted": rules.fit.output.fitted.format(prior=wildcards.prior)}
    training = EXPERIMENT.training_of(wildcards.prior, wildcards.task)
    layout = Layout(EXPERIMENT)
    moments = (
        {"moments": layout.flow(wildcards.prior, "moments").as_posix()}
        if wildcards.prior in EXPERIMENT.flows
        else {}
    )
    return {
        "weights": layout.trained(training, "weights").as_posix(),
        "config": layout.trained(training, "config").as_posix(),
        **moments,
    }


def study_files(wildcards):
    """What a study looks at: rows of all reconstructions, or a model and test images, or nothing."""
    facts = study_facts(EXPERIMENT.studies[wildcards.study].study)
    prior = EXPERIMENT.prior_of_study(wildcards.study)
    rows = {"rows": rules.evaluate.output.rows} if facts.reads_rows else {}
    if prior == NO_PRIOR:
        return rows
    images = {
        "images": rules.prepare.output.test,
        "manifest": rules.prepare.output.manifest,
    }
    layout, training = Layout(EXPERIMENT), EXPERIMENT.training_of(prior, "")
    model = {
        name: layout.trained(training, name).as_posix()
        for name in ("weights", "config")
    }
    return {**rows, **images, **model}


def study_tasks(wildcards):
    """The tasks, for a study that takes them; another is not made again when one changes."""
    facts = study_facts(EXPERIMENT.studies[wildcards.study].study)
    tasks = EXPERIMENT.tasks if facts.reads_tasks else {}
    return {name: settled(task.problem()) for name, task in tasks.items()}


def every_study(name):
    """The files of one kind of all studies."""
    return [
        rules.study.output[name].format(study=study) for study in EXPERIMENT.studies
    ]


def check_before_jobs():
    """Build the pieces and count the images; only where jobs will run, since it costs seconds."""
    with one_line_errors():
        from flowprior.experiment.feasible import check_feasible

        check_feasible(EXPERIMENT)


def make_folders():
    """Every folder that DVC has as an output, though no job of this experiment may fill it."""
    for name in folders():
        (Path(RESULTS) / name).mkdir(parents=True, exist_ok=True)


def remember_this_call():
    """Leave what was called where records and the report find it."""
    Invocation.now(sys.argv).write(Layout(EXPERIMENT).invocation)


def _user_errors():
    return sorted(Path(LOGS).rglob(f"*{ERROR_SUFFIX}"))


def forget_user_errors():
    """Remove what an earlier run left to be said."""
    for file in _user_errors():
        file.unlink()


def exit_with_user_errors():
    """If jobs stopped by a person's mistake, repeat their lines last and exit with status 2."""
    files = _user_errors()
    for file in files:
        print(file.read_text().strip(), file=sys.stderr)
    if files:
        sys.exit(USER_ERROR_STATUS)


def say_where_the_report_is():
    """The last line of a run; under make, which prints it after every run, nothing."""
    if "MAKELEVEL" not in os.environ:
        print(f"Report: {Layout(EXPERIMENT).page}", file=sys.stderr)
