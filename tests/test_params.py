"""What an experiment may say, and what is answered when it says something else."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from flowprior.errors import FlowpriorError
from flowprior.experiment.labels import labels_of
from flowprior.experiment.loading import experiment_from, load_experiment
from flowprior.experiment.params import Experiment
from flowprior.experiment.parts import MethodSettings
from flowprior.experiment.pieces import PIECES
from flowprior.experiment.plan import check_names, jobs, splits_of, without_missing_solvers
from flowprior.experiment.schema import REGISTRIES, generate_index, generate_schema
from flowprior.images.settings import DataSettings
from flowprior.operators.task import TaskSettings
from flowprior.training.settings import TrainingSettings

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "params").glob("*.yaml"))


def smoke(**changes):
    return {**yaml.safe_load((ROOT / "params" / "smoke.yaml").read_text()), **changes}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_experiment_is_in_order_and_named_like_its_file(path):
    experiment = load_experiment(path)
    check_names(experiment)
    jsonschema.validate(yaml.safe_load(path.read_text()), generate_schema())
    assert experiment.name == path.stem
    assert jobs(experiment)


def test_schemas_are_up_to_date():
    """If this fails: make schema."""
    assert json.loads(PIECES.read_text()) == generate_index()
    written = ROOT / "workflow" / "schemas" / "experiment.schema.json"
    assert json.loads(written.read_text()) == generate_schema()


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_setting_of_every_piece_is_explained(kind):
    for name, schema in generate_index()[kind].items():
        for setting, facts in schema.get("properties", {}).items():
            assert facts.get("description"), f"{kind} {name}: {setting}"


def test_the_schema_knows_settings_of_pieces():
    validator = jsonschema.Draft202012Validator(generate_schema())
    assert validator.is_valid(smoke())
    wrong = smoke(priors={"tiny": {"flow": "haar_glow", "settings": {"levels": "two"}}})
    assert not validator.is_valid(wrong)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": {"maap": {}}}, "unknown solver 'maap'; did you mean 'map'?"),
        ({"priors": {"tiny": {"flow": "haar_glov"}}}, "unknown model 'haar_glov'; did you mean 'haar_glow'?"),
        (
            {"tasks": {"sensing": {"operator": "gaussian_sensing"}}, "methods": {}},
            "task 'sensing': measurements is missing; set it: numbers m that are measured",
        ),
        (
            {
                "tasks": {
                    "sensing": {"operator": "gaussian_sensing", "settings": {"measurements": 9}, "as_image": True}
                },
                "methods": {},
            },
            "task 'sensing': as_image is true, but 'gaussian_sensing' measures no picture; leave it out",
        ),
        ({"tasks": {"denoising": {"operator": "identiti"}}, "methods": {}}, "did you mean 'identity'?"),
        (
            {"methods": {"map": {"settings": {"noise_sdt": 0.1}}}},
            "unknown setting 'noise_sdt'; did you mean 'noise_std'?",
        ),
        ({"methods": {"map": {"sweep": {"noise_std": [-1.0]}}}}, "-1.0"),
        ({"methods": {"map": {"tasks": {"denoisin": {}}}}}, "did you mean 'denoising'?"),
        ({"methods": {"map": {"priors": ["tinny"]}}}, "did you mean 'tiny'?"),
        ({"tets_images": 3}, "unknown setting 'tets_images'; did you mean 'test_images'?"),
        ({"data": {"resolutoin": 8}}, "did you mean 'resolution'?"),
        ({"priors": {"tiny": {"flow": "haar_glow", "training": {"stepz": 1}}}}, "did you mean 'steps'?"),
        ({"bits": 6}, "got 6"),
        ({"test_images": 0}, "got 0"),
        ({"name": "a/b"}, "a/b"),
    ],
)
def test_mistakes_are_named_in_one_line(changes, said):
    with pytest.raises(FlowpriorError) as error:
        experiment_from(smoke(**changes))
    assert said in str(error.value)
    assert "\n" not in str(error.value).strip()


@pytest.mark.parametrize("name", ["a/b", "../up", "", "with space", "gaussian", "none"])
def test_names_that_cannot_be_folders_are_refused(name):
    experiment = Experiment.model_validate(smoke(priors={name: {"flow": "glow"}}))
    with pytest.raises(FlowpriorError, match="prior"):
        check_names(experiment)


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no experiment file"), ("a: [", "not valid YAML"), ("- a", "must hold settings by name")],
)
def test_files_that_are_no_experiment(tmp_path, text, said):
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(FlowpriorError, match=said):
        load_experiment(path)


def test_points_are_the_grid_and_the_papers_values_once():
    plan = {
        "map": {
            "solver": "chavez",
            "sweep": {"alpha": [0.1, 0.2]},
            "tasks": {"denoising": {"paper": {"alpha": 0.2}}},
        }
    }
    points = experiment_from(smoke(methods=plan)).points("map", "denoising")
    assert [(point.label, point.paper) for point in points] == [("alpha=0.1", False), ("alpha=0.2", True)]
    plan["map"]["tasks"]["denoising"]["paper"] = {"alpha": 0.3}
    points = experiment_from(smoke(methods=plan)).points("map", "denoising")
    assert [(point.label, point.paper) for point in points][-1] == ("alpha=0.3", True)
    assert len(points) == 3


def test_jobs_cover_every_point_of_every_method_once_per_split():
    experiment = load_experiment(ROOT / "params" / "smoke.yaml")
    planned = jobs(experiment)
    assert len(set(planned)) == len(planned)
    for method in experiment.methods:
        for task in experiment.tasks_of(method):
            for split in ("validation", "test"):
                labels = [
                    point.label
                    for job in planned
                    if (job.method, job.task, job.split) == (method, task, split)
                    for point in experiment.chunks(method, task)[job.chunk]
                ]
                solved = split in splits_of(experiment, method, task)
                assert labels == [point.label for point in experiment.points(method, task) if solved]


def test_a_slow_method_with_one_setting_is_not_run_on_validation_images():
    plan = {"map": {"images": 2}, "chavez": {"images": 2, "sweep": {"alpha": [0.1, 0.2]}}}
    planned = jobs(experiment_from(smoke(methods=plan)))
    assert {job.split for job in planned if job.method == "map"} == {"test", "reduced"}
    assert {job.split for job in planned if job.method == "chavez"} == {"validation", "test", "reduced"}


@pytest.mark.parametrize("path", sorted((ROOT / "params").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_baseline_can_be_the_best_one(path):
    """The best baseline is chosen on validation images: one that skipped them would win by nothing it does."""
    experiment = load_experiment(path)
    planned = jobs(experiment)
    assert "linear_mmse" in experiment.methods
    for method in {"bm3d", "linear_mmse"} & set(experiment.methods):
        assert {job.split for job in planned if job.method == method} >= {"validation", "test"}


def test_methods_without_their_module_are_left_out_and_named(monkeypatch):
    experiment = load_experiment(ROOT / "params" / "smoke.yaml")
    monkeypatch.setitem(sys.modules, "bm3d", None)
    left, skipped = without_missing_solvers(experiment)
    assert "bm3d" in experiment.methods
    assert "bm3d" not in left.methods
    assert "non-commercial" in skipped["bm3d"]


def test_prepared_data_is_named_by_its_settings():
    data = DataSettings(resolution=32)
    assert data.key == DataSettings(resolution=32).key
    assert data.key != DataSettings(resolution=32, train=5).key
    assert data.key.startswith("photos-32px-")


def test_labels_do_not_depend_on_order():
    assert labels_of([{"b": 1, "a": 2}]) == labels_of([{"a": 2, "b": 1}]) == ["a=2,b=1"]


def test_planning_costs_no_torch():
    """The workflow reads experiments whenever it starts, on a cluster once per job."""
    program = (
        "import sys; from flowprior.experiment.loading import load_experiment; import flowprior.images; "
        "import flowprior.experiment.plan, flowprior.experiment.layout; load_experiment(sys.argv[1]); "
        "print([name for name in ('torch', 'pandas', 'matplotlib', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "params" / "smoke.yaml")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_models_are_said_in_two_spellings():
    older = Experiment.model_validate(smoke())
    entry = smoke()["priors"]["tiny"]
    newer = {key: value for key, value in smoke().items() if key != "priors"}
    newer["models"] = {
        "tiny": {**{key: value for key, value in entry.items() if key != "flow"}, "model": entry["flow"]}
    }
    schema = generate_schema()
    for said in (smoke(), newer):
        jsonschema.validate(said, schema)
        assert Experiment.model_validate(said) == older
    # What was trained before is the same job.
    assert older.model_dump(mode="json")["priors"]["tiny"]["flow"] == "haar_glow"
    jsonschema.validate(older.model_dump(mode="json"), schema)
    assert Experiment.model_validate(older.model_dump(mode="json")) == older


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {"a": {"model": "dcgan"}}}, "'models' and 'priors' are two words for one thing"),
        ({"priors": {"a": {"flow": "dcgan", "settings": {"widht": 3}}}}, "did you mean 'width'"),
        ({"priors": {"a": {"model": "gaussian"}}}, "unknown model 'gaussian'"),
    ],
)
def test_a_model_that_is_said_wrongly(changes, message):
    with pytest.raises(FlowpriorError, match=message):
        experiment_from(smoke(**changes))


def test_models_run_where_they_can():
    models = {"gan": {"model": "dcgan"}, "unet": {"model": "regressor"}, "tiny": {"flow": "glow"}}
    tasks = {name: {"operator": "identity"} for name in ("one", "two", "three")}
    methods = {"csgm": {}, "map": {}, "regressor": {"tasks": ["two", "one"]}}
    experiment = Experiment(name="x", models=models, tasks=tasks, methods=methods)
    assert [experiment.priors_of(method) for method in methods] == [("gan", "tiny"), ("tiny",), ("unet",)]
    assert experiment.flows == ("tiny",)
    found = [(training.prior, training.task) for training in experiment.trainings()]
    assert found == [("gan", None), ("unet", "one"), ("unet", "two"), ("tiny", None)]
    named = experiment.model_copy(update={"methods": {"map": MethodSettings(priors=["gan"])}})
    with pytest.raises(FlowpriorError, match=r"'map' needs a model that is Density, and 'gan' \(dcgan\) is none"):
        named.priors_of("map")


def test_a_model_is_trained_as_its_kind_is_unless_it_is_said():
    said = {
        "a": {"model": "dcgan"},
        "b": {"model": "dcgan", "training": {"beta1": 0.9, "steps": 7}},
        "c": {"flow": "glow"},
    }
    models = Experiment.model_validate({**smoke(methods={}), "priors": said}).priors
    own = {"learning_rate": 2e-4, "beta1": 0.5, "schedule": "constant", "warmup": 0}
    assert models["a"].training == TrainingSettings(**own)
    assert models["b"].training == TrainingSettings(**{**own, "beta1": 0.9, "steps": 7})
    assert models["c"].training == TrainingSettings()


OTHERS = {
    "one": {"operator": "center_mask"},
    "two": {"operator": "center_mask", "settings": {"start": 0.4}, "trained_as": "one"},
    "three": {"operator": "identity", "noise_std": 0.1},
}


def asked_of(tasks, method_tasks=None):
    models = {"unet": {"model": "regressor"}, "tiny": {"flow": "glow"}}
    methods = {"regressor": {"tasks": method_tasks}, "map": {}}
    return Experiment(name="x", models=models, tasks=tasks, methods=methods)


@pytest.mark.parametrize(
    ("solved", "trained"), [(None, ["one", "three"]), (["two"], ["one"]), (["two", "three"], ["one", "three"])]
)
def test_a_task_may_be_solved_by_models_of_another(solved, trained):
    experiment = asked_of(OTHERS, solved)
    assert [training.task for training in experiment.trainings() if training.task] == trained
    found = [experiment.training_of("unet", task).task for task in OTHERS]
    assert found == ["one", "one", "three"]
    assert experiment.training_of("tiny", "two").task is None


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"trained_as": "onee"}, "trained_as of task 'two': task 'onee'; did you mean 'one'"),
        ({"trained_as": "two"}, "task 'two' is trained_as itself: leave trained_as out"),
        ({"trained_as": "four"}, "trained_as 'four', whose models are those of 'one': name 'one'"),
    ],
)
def test_models_of_another_task_that_are_not_there(task, message):
    tasks = {**OTHERS, "two": {"operator": "identity", **task}, "four": {"operator": "identity", "trained_as": "one"}}
    with pytest.raises(FlowpriorError, match=message):
        experiment_from({"name": "x", "models": {}, "tasks": tasks, "methods": {}})


def test_whose_models_solve_a_task_changes_nothing_else():
    """What was measured, trained and solved before the word was there is still what is asked for."""
    alone, other = TaskSettings(operator="identity"), TaskSettings(operator="identity", trained_as="one")
    before = {"operator": "identity", "settings": {}, "noise_std": 0.0, "noise_norm": None, "as_image": False}
    assert alone.model_dump() == alone.model_dump(mode="json") == alone.problem() == other.problem() == before
    assert repr(alone) == repr(other) and "trained_as" not in repr(alone)
    assert list(alone.model_dump()) == list(before)
    assert other.model_dump() == {**before, "trained_as": "one"}
    assert TaskSettings(**other.model_dump()) == other != alone
