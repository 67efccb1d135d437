"""Records on their way into MLflow: each once, whatever happens."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from report_fixture import CALL
from tracked import CHAVEZ, client_of, record_of, runs_of

from flowprior.provenance.invocation import Invocation
from flowprior.records import records_of
from flowprior.records.record import ImageSet
from flowprior.tracking import publish, tracking_uri
from flowprior.tracking.columns import VIEW
from flowprior.tracking.sending import CURRENT, KIND
from flowprior.tracking.server import addressed
from flowprior.tracking.ui import pages_of

FIRST = Invocation(**CALL)
SECOND = Invocation("20260103-000000-012345", "2026-01-03T00:00:00+00:00", "snakemake --forcerun train")
pytestmark = pytest.mark.usefixtures("no_server")


class TestARun:
    def test_says_what_its_record_says(self, published):
        root, experiment, done = published
        record = next(record for record in records_of(experiment, root) if record.key == CHAVEZ)
        run = client_of(root).get_run(done.runs[CHAVEZ])
        assert (run.info.status, run.info.run_name) == ("FINISHED", "denoising chavez alpha=0.02")
        assert run.data.params == dict(record.settings)
        assert run.data.metrics.items() >= dict(record.metrics).items()
        assert run.data.tags.items() >= {**record.tags, **record.marks, CURRENT: "yes"}.items()
        assert run.info.end_time - run.info.start_time == int(1000 * record.seconds)
        assert run.info.start_time == int(1000 * record.started.timestamp())

    def test_has_its_curve_its_pictures_and_its_table(self, published):
        root, _, done = published
        client = client_of(root)
        assert len(client.get_metric_history(done.runs[CHAVEZ], "trace/psnr")) > 1
        files = {file.path for file in client.list_artifacts(done.runs[CHAVEZ])}
        assert files == {"reconstructions.png", "images.json", "history.csv", "settings.yaml", "log.txt"}
        group = client.get_experiment_by_name("tiny/photos-16px").experiment_id
        with addressed(tracking_uri(root)):
            table = client.load_table(group, "images.json", run_ids=[done.runs[CHAVEZ]])
        assert len(table) == 12 and "psnr" in table
        training = client.get_metric_history(done.runs["tiny/training/flow_a"], "loss_bits_per_dim")
        assert len(training) == 200
        assert [point.step for point in training] == sorted(point.step for point in training)

    def test_names_its_images_as_mlflow_does(self, published):
        import mlflow

        root, _, done = published
        (used,) = client_of(root).get_run(done.runs[CHAVEZ]).inputs.dataset_inputs
        assert used.dataset.name == "photos-16px test" and len(used.dataset.digest) == 16
        assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "test"}
        assert (root / mlflow.data.get_source(used.dataset).uri).exists()

    def test_lies_beneath_the_call_that_made_it(self, published):
        root, _, done = published
        (call,) = runs_of(root, "tiny/photos-16px", f"tags.`{KIND}` = 'invocation'")
        assert call.info.status == "FINISHED"
        assert call.data.params["command"] == FIRST.command
        assert call.info.start_time == 1000 * int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp())
        beneath = runs_of(root, "tiny/photos-16px", f"tags.`mlflow.parentRunId` = '{call.info.run_id}'")
        assert {run.info.run_id for run in beneath} == set(done.runs.values())

    def test_is_found_on_a_page_with_the_columns_that_tell_methods_apart(self, published):
        root, _, _ = published
        assert list(pages_of(root)) == ["tiny/photos-16px"]
        experiment = client_of(root).get_experiment_by_name("tiny/photos-16px")
        view = json.loads(experiment.tags[f"mlflow.sharedViewState.{VIEW}"])
        assert {"params.`method`", "params.`task`", "metrics.`psnr`"} <= set(view["selectedColumns"])
        assert pages_of(root)["tiny/photos-16px"].endswith(f"/{experiment.experiment_id}/runs?viewStateShareKey={VIEW}")


class TestPublishingAgain:
    def test_makes_no_second_run(self, published):
        root, experiment, done = published
        again = publish(records_of(experiment, root), root)
        assert (again.new, again.models, again.runs) == (0, (), done.runs)
        assert len(runs_of(root, "tiny/photos-16px")) == len(done.runs) + 1

    def test_with_a_changed_number_makes_a_new_run_and_the_old_one_is_no_longer_current(self, place):
        old = publish([record_of(), record_of("other")], place)
        new = publish([record_of(psnr=31.0), record_of("other")], place)
        assert (new.new, new.runs["other"]) == (1, old.runs["other"])
        current = {run.info.run_id for run in runs_of(place, "g", f"tags.`{CURRENT}` = 'yes'")}
        assert current == set(new.runs.values())
        back = publish([record_of(), record_of("other")], place)
        assert (back.new, back.runs) == (0, old.runs)
        current = {run.info.run_id for run in runs_of(place, "g", f"tags.`{CURRENT}` = 'yes'")}
        assert current == set(old.runs.values())

    def test_with_another_choice_changes_a_mark_of_the_same_run(self, place):
        old = publish([record_of(marks={"selected_by": "-"})], place)
        new = publish([record_of(marks={"selected_by": "validation"})], place)
        assert (new.new, new.runs) == (0, old.runs)
        assert client_of(place).get_run(new.runs["k"]).data.tags["selected_by"] == "validation"

    def test_after_a_setting_was_dropped_its_run_is_no_longer_current(self, place):
        old = publish([record_of("a"), record_of("b")], place)
        publish([record_of("a")], place)
        assert client_of(place).get_run(old.runs["b"]).data.tags[CURRENT] == "no"

    @pytest.mark.parametrize("broken", [0, 1, 2])
    def test_after_an_interruption_finishes_what_was_begun(self, place, broken):
        def fail(target):
            raise RuntimeError("power cut")

        keys = ("a", "b", "c")
        interrupted = [
            record_of(key, call=FIRST, artifacts={"file": fail} if number == broken else {})
            for number, key in enumerate(keys)
        ]
        with pytest.raises(RuntimeError):
            publish(interrupted, place)
        done = publish([record_of(key, call=FIRST) for key in keys], place)
        assert done.new == 3 - broken
        runs = {run.info.run_id: run for run in runs_of(place, "g")}
        (call,) = [identity for identity, run in runs.items() if run.data.tags[KIND] == "invocation"]
        assert set(runs) == {*done.runs.values(), call}
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        assert {runs[identity].data.tags["mlflow.parentRunId"] for identity in done.runs.values()} == {call}
        assert runs[call].data.metrics["runs"] == 3

    def test_puts_each_run_beneath_the_call_that_it_was_made_in(self, place):
        for _ in range(2):
            done = publish([record_of("a", call=FIRST), record_of("b", call=SECOND)], place)
            more = publish([record_of("a", call=FIRST), record_of("b", call=SECOND), record_of("c", call=FIRST)], place)
        runs = {run.info.run_id: run for run in runs_of(place, "g")}
        calls = {run.data.params["command"]: run for run in runs.values() if run.data.tags[KIND] == "invocation"}
        assert len(runs) == 5 and set(calls) == {FIRST.command, SECOND.command}
        parents = {key: runs[more.runs[key]].data.tags["mlflow.parentRunId"] for key in "abc"}
        first, second = calls[FIRST.command].info.run_id, calls[SECOND.command].info.run_id
        assert parents == {"a": first, "b": second, "c": first} and done.runs["a"] == more.runs["a"]
        assert [calls[call.command].data.metrics["runs"] for call in (FIRST, SECOND)] == [2, 1]
        assert all(run.info.end_time >= run.info.start_time for run in runs.values())

    def test_from_two_programs_at_once_into_a_new_database(self, tmp_path):
        program = (
            "import sys; from pathlib import Path; from flowprior.tracking import publish; "
            "from flowprior.records.record import Record; "
            "publish([Record(sys.argv[1], 'reconstruction', 'n', sys.argv[1], {}, {})], Path(sys.argv[2]))"
        )
        started = [
            subprocess.Popen([sys.executable, "-c", program, name, str(tmp_path)], stderr=subprocess.PIPE, text=True)
            for name in ("one", "two")
        ]
        assert [(process.wait(), process.stderr.read()[-500:]) for process in started] == [(0, "")] * 2
        assert len(runs_of(tmp_path, "one")) == len(runs_of(tmp_path, "two")) == 2


def test_images_of_one_name_and_another_content_are_other_inputs():
    images = ImageSet("photos-32px test", "ab", "test", "prepared/x/test.npy", 8)
    assert record_of(inputs=(images,)).digest != record_of(inputs=(images._replace(digest="cd"),)).digest
