"""What DVC draws follows from histories, rows and traces; rows are those the experiment asks for."""

import numpy as np
import pandas as pd
import pytest
from report_fixture import fabricate, tiny_experiment

from flowprior.errors import FlowpriorError
from flowprior.evaluation import evaluate
from flowprior.evaluation.plots import POINTS, plots_of, training_table
from flowprior.evaluation.selection import setting_means
from flowprior.experiment.origin import check_origin
from flowprior.experiment.plan import jobs
from flowprior.report import Layout
from flowprior.report.results import read_history


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    fabricate(root, tiny_experiment())
    return Layout(tiny_experiment(), root)


@pytest.fixture(scope="module")
def rows(layout):
    return pd.read_parquet(layout.evaluated("rows"))


@pytest.fixture(scope="module")
def summary(rows):
    return evaluate(rows).summary


@pytest.fixture(scope="module")
def plots(layout, rows, summary):
    histories = {"flow_a": read_history(layout.flow("flow_a", "history"))}
    return plots_of(histories, rows, pd.read_parquet(layout.evaluated("traces")), summary)


def test_every_setting_has_its_mean_and_one_is_chosen(plots, rows, summary):
    settings = plots.settings
    means = setting_means(rows)
    assert settings["psnr"].tolist() == means["psnr"].tolist()
    chosen = settings[(settings["chosen"] == "yes") & (settings["images"] == "test")]
    by_line = summary[summary["selected_by"] == "validation"]
    key = ["task", "method", "prior", "setting"]
    assert set(chosen[key].itertuples(index=False)) == set(by_line[key].itertuples(index=False))
    assert set(settings["chosen"]) == {"yes", "no"}


def test_curves_end_at_the_mean_that_the_summary_has(plots, summary):
    ends = plots.curves.groupby(["task", "method", "prior"]).last()["psnr"]
    chosen = summary[summary["selected_by"] == "validation"].set_index(["task", "method", "prior"])["psnr"]
    pd.testing.assert_series_equal(ends.sort_index(), chosen.sort_index(), check_names=False)
    assert (plots.curves["seconds"] > 0).all()


def test_training_is_thinned_between_its_first_and_last_step():
    steps = np.arange(1, 5001)
    validation = np.where(steps % 500 == 0, 3.0, np.nan)
    history = pd.DataFrame({"step": steps, "seconds": steps / 10, "loss_bits_per_dim": 4.0})
    table = training_table({"p": history.assign(validation_bits_per_dim=validation)})
    training, checked = (table[table["images"] == images] for images in ("training", "validation"))
    assert len(training) == POINTS
    assert training["step"].iloc[[0, -1]].tolist() == [1, 5000]
    assert checked["step"].tolist() == list(range(500, 5001, 500))


def test_a_diverged_loss_is_no_point():
    history = pd.DataFrame({"step": [1, 2], "seconds": [1, 2], "loss_bits_per_dim": [4.0, np.inf]})
    assert training_table({"p": history})["step"].tolist() == [1]


def test_without_flows_there_is_a_table_with_no_lines():
    assert list(training_table({}).columns) == ["flow", "line", "images", "step", "seconds", "bits_per_dim"]


def test_a_method_with_several_priors_is_named_with_each(layout, rows, summary):
    other = rows[rows["method"] == "map"].assign(prior="flow_b")
    both = pd.concat([rows, other], ignore_index=True)
    traces = pd.read_parquet(layout.evaluated("traces"))
    settings = plots_of({}, both, traces, evaluate(both).summary).settings
    assert {"map (flow_a)", "map (flow_b)", "chavez", "bm3d"} <= set(settings["line"])


class TestRowsOfAJob:
    @pytest.fixture
    def job(self):
        return next(job for job in jobs(tiny_experiment()) if job.method == "chavez" and job.chunk == 0)

    @pytest.fixture
    def held(self, rows, job):
        mask = (rows["task"] == job.task) & (rows["method"] == "chavez") & (rows["split"] == job.split)
        return rows[mask & rows["setting"].isin(["alpha=0", "alpha=0.02"])]

    def test_are_taken_where_they_are_the_experiments(self, held, job):
        check_origin(tiny_experiment(), job, held, "0.rows.parquet")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda rows: rows[rows["setting"] == "alpha=0"], "no setting 'alpha=0.02'"),
            (lambda rows: rows.assign(setting=rows["setting"] + "5"), "setting 'alpha=05', which"),
            (lambda rows: rows.assign(settings='{"alpha": 0.5}'), "'alpha': 0.5"),
            (lambda rows: rows.assign(seed=4), "seed with {4}, the experiment has {3}"),
            (lambda rows: rows.assign(bits=5), "bits with {5}"),
        ],
    )
    def test_are_refused_where_they_are_not(self, held, job, change, said):
        with pytest.raises(FlowpriorError, match=r"0\.rows\.parquet") as refused:
            check_origin(tiny_experiment(), job, change(held), "0.rows.parquet")
        assert said in str(refused.value)
        assert "run again" in str(refused.value)
