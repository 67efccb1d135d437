"""Selection on validation images, means, intervals and paired differences follow from rows as documented."""

import json

import numpy as np
import pandas as pd
import pytest

from flowprior.errors import FlowpriorError
from flowprior.evaluation import PSNR_CAP, bootstrap_interval, describe, evaluate, pooled_psnr_chavez2021
from flowprior.evaluation.statistics import RESAMPLES, capped
from flowprior.files import replacing


def rows_of(method, levels, *, task="denoising", prior="flow", solver=None, paper=None, n=8, seed=0):
    """Rows of a given mean PSNR per setting and split; `levels`: setting -> (validation, test)."""
    parts = []
    for setting, by_split in levels.items():
        for split, level in zip(("validation", "test"), by_split, strict=True):
            spread = np.random.default_rng([seed, n, split == "test"]).normal(size=n)
            values = level + spread - spread.mean()
            parts.append(
                pd.DataFrame(
                    {
                        "experiment": "e",
                        "dataset": "photos-32px",
                        "split": split,
                        "image": [f"{split}{i}" for i in range(n)],
                        "task": task,
                        "method": method,
                        "solver": solver or method,
                        "prior": prior,
                        "baseline": (solver or method) in ("linear_mmse", "bm3d"),
                        "setting": setting,
                        "settings": "{}",
                        "paper": setting == paper,
                        "bits": 8,
                        "seed": 0,
                        "psnr": values,
                        "ssim": values / 40,
                        "psnr_chavez2021": (values + 20 * np.log10(255)) / 2,
                        "seconds": 0.5,
                        "passes": 100,
                        "status": "ok",
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def all_rows():
    return pd.concat(
        [
            rows_of("map", {"a": (30.0, 27.0), "b": (29.0, 33.0), "c": (28.0, 28.0)}, paper="c"),
            rows_of("linear_mmse", {"x": (28.0, 29.0)}, prior="gaussian", seed=1),
            rows_of("bm3d", {"x": (27.0, 31.0)}, prior="none", seed=2),
        ],
        ignore_index=True,
    )


def line(summary, method, by):
    found = summary[(summary["method"] == method) & (summary["selected_by"] == by)]
    assert len(found) == 1
    return found.iloc[0]


def test_settings_are_chosen_on_validation_and_reported_on_test_images():
    summary = evaluate(all_rows()).summary
    chosen = {by: line(summary, "map", by) for by in ("validation", "paper", "oracle")}
    assert {by: entry["setting"] for by, entry in chosen.items()} == {
        "validation": "a",
        "paper": "c",
        "oracle": "b",
    }
    assert [chosen[by]["psnr"] for by in ("validation", "paper", "oracle")] == pytest.approx([27, 28, 33])
    assert chosen["validation"]["validation_psnr"] == pytest.approx(30)


def test_a_line_without_paper_values_has_no_paper_line_and_one_setting_is_its_own_oracle():
    summary = evaluate(all_rows()).summary
    assert set(summary.loc[summary["method"] == "bm3d", "selected_by"]) == {"validation", "oracle"}


def test_test_images_never_decide_what_validation_images_choose():
    rows = all_rows()
    before = line(evaluate(rows).summary, "map", "validation")["setting"]
    rng = np.random.default_rng(0)
    rows.loc[rows["split"] == "test", ["psnr", "ssim"]] = rng.uniform(size=(sum(rows["split"] == "test"), 2))
    assert line(evaluate(rows).summary, "map", "validation")["setting"] == before


def test_summary_has_the_documented_columns_and_the_values_of_the_rows():
    rows = all_rows()
    summary = evaluate(rows).summary
    assert list(summary.columns[:12]) == [
        *(
            "task",
            "method",
            "setting",
            "selected_by",
            "n",
            "n_diverged",
            "psnr",
            "psnr_low",
            "psnr_high",
            "ssim",
        ),
        *("seconds_per_image", "passes"),
    ]
    entry = line(summary, "map", "validation")
    images = rows[(rows["method"] == "map") & (rows["setting"] == "a") & (rows["split"] == "test")]
    assert entry["psnr"] == pytest.approx(images["psnr"].mean())
    assert entry["psnr_std"] == pytest.approx(images["psnr"].std())
    assert entry["ssim"] == pytest.approx(images["ssim"].mean())
    assert entry["psnr_chavez2021"] == pytest.approx(images["psnr_chavez2021"].mean())
    assert entry["psnr_low"] < entry["psnr"] < entry["psnr_high"]
    assert (entry["n"], entry["n_diverged"], entry["prior"], entry["bits"]) == (8, 0, "flow", 8)


def test_a_diverged_image_counts_with_what_was_recorded():
    rows = all_rows()
    at = rows.index[(rows["method"] == "map") & (rows["setting"] == "a") & (rows["split"] == "test")][0]
    rows.loc[at, ["status", "psnr", "ssim"]] = ["diverged", 3.0, 0.01]
    entry = line(evaluate(rows).summary, "map", "validation")
    assert (entry["n"], entry["n_diverged"]) == (8, 1)
    assert entry["psnr"] == pytest.approx(rows.loc[at : at + 7, "psnr"].mean())


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_what_is_not_a_number_is_chosen_last_and_never_vanishes(value):
    rows = all_rows()
    mask = (rows["method"] == "map") & (rows["setting"] == "a")
    rows.loc[rows.index[mask & (rows["split"] == "validation")][0], "psnr"] = value
    assert line(evaluate(rows).summary, "map", "validation")["setting"] == "b"
    rows = all_rows()
    rows.loc[rows.index[mask & (rows["split"] == "test")][0], "psnr"] = value
    result = evaluate(rows)
    entry = line(result.summary, "map", "validation")
    assert entry["setting"] == "a"
    assert np.isnan(entry["psnr"])
    assert (entry["n"], entry["n_diverged"]) == (8, 1)
    assert result.metrics["denoising"]["map"]["psnr"] is None
    json.dumps(result.metrics, allow_nan=False)


def test_a_perfect_image_does_not_make_a_mean_infinite():
    rows = rows_of("map", {"a": (30.0, 30.0)}, n=4)
    rows.loc[rows.index[-1], ["psnr", "psnr_chavez2021"]] = np.inf
    entry = evaluate(rows).summary.iloc[0]
    expected = (rows["psnr"].iloc[-4:-1].sum() + PSNR_CAP) / 4
    assert entry["psnr"] == pytest.approx(expected)
    assert entry["psnr_chavez2021"] == pytest.approx((expected + 20 * np.log10(255)) / 2)
    assert np.isfinite(entry["psnr_chavez2021_pooled"])


def test_paired_differences_are_means_over_common_images_and_mirror_each_other():
    rows = all_rows()
    few = rows_of("slow", {"a": (20.0, 20.0)}, n=3)
    paired = evaluate(pd.concat([rows, few], ignore_index=True)).paired
    assert len(paired) == 4 * 3
    by_pair = paired.set_index(["method", "other"])
    forth, back = by_pair.loc[("map", "bm3d")], by_pair.loc[("bm3d", "map")]
    assert forth["psnr_difference"] == pytest.approx(27 - 31)
    assert (forth["n"], by_pair.loc[("slow", "map")]["n"]) == (8, 3)
    for ours, theirs in (("psnr_difference", "psnr_difference"), ("low", "high"), ("ssim_low", "ssim_high")):
        assert forth[ours] == pytest.approx(-back[theirs])
    assert forth["low"] <= forth["psnr_difference"] <= forth["high"]
    test = rows[rows["split"] == "test"].set_index("image")["psnr"]
    images = [f"test{i}" for i in range(3)]
    slow = few[few["split"] == "test"].set_index("image")["psnr"]
    of_map = test[(rows[rows["split"] == "test"]["setting"] == "a").to_numpy()]
    assert by_pair.loc[("slow", "map")]["psnr_difference"] == pytest.approx((slow[images] - of_map[images]).mean())


def test_the_best_baseline_is_chosen_on_validation_images():
    paired = evaluate(all_rows()).paired
    # linear_mmse is better on validation images, bm3d on test images
    assert set(paired.loc[paired["other_is_best_baseline"], "other"]) == {"linear_mmse"}
    assert set(paired.loc[paired["other_is_best_baseline"], "method"]) == {"map", "bm3d"}


def test_a_renamed_baseline_is_one_still():
    rows = pd.concat([rows_of("map", {"a": (1.0, 1.0)}), rows_of("wiener", {"a": (2.0, 2.0)}, solver="linear_mmse")])
    paired = evaluate(rows).paired
    assert paired.set_index("other")["other_is_best_baseline"].to_dict() == {"wiener": True, "map": False}


def test_metrics_name_the_prior_only_where_there_are_several():
    rows = pd.concat(
        [
            rows_of("map", {"a": (1.0, 2.0)}, prior="p"),
            rows_of("map", {"a": (1.0, 3.0)}, prior="q"),
            rows_of("bm3d", {"a": (1.0, 4.0)}, prior="none"),
        ]
    )
    metrics = evaluate(rows).metrics
    assert {name: entry["psnr"] for name, entry in metrics["denoising"].items()} == pytest.approx(
        {"map/p": 2, "map/q": 3, "bm3d": 4}
    )


def test_rows_that_cannot_be_compared_are_refused():
    rows = all_rows()
    with pytest.raises(FlowpriorError, match="two rows for task 'denoising', method 'map'"):
        evaluate(pd.concat([rows, rows.iloc[:1]]))
    with pytest.raises(FlowpriorError, match="setting 'a' was solved on other validation images"):
        evaluate(rows.iloc[1:])
    with pytest.raises(FlowpriorError, match="setting 'b' has no validation rows"):
        evaluate(rows[(rows["setting"] != "b") | (rows["split"] == "test")])
    with pytest.raises(FlowpriorError, match="no test rows"):
        evaluate(rows[rows["split"] == "validation"])
    with pytest.raises(FlowpriorError, match="no rows"):
        evaluate(rows.iloc[:0])


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.normal(loc=5.0, size=(400, 40))
    covered = np.mean([low <= 5.0 <= high for low, high in map(bootstrap_interval, samples)])
    assert 0.90 < covered < 0.98


def test_the_interval_is_that_of_the_normal_distribution_for_many_images():
    values = np.random.default_rng(1).normal(loc=30.0, scale=2.0, size=192)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(192)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05 * half)


def test_intervals_are_reproducible_and_follow_the_seed():
    values = np.random.default_rng(2).normal(size=10)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values.copy(), seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)
    assert RESAMPLES >= 1000


@pytest.mark.parametrize("values", [[1.0], [1.0, np.nan], []])
def test_there_is_no_interval_where_it_means_nothing(values):
    assert np.isnan(bootstrap_interval(np.array(values))).all()


def test_describe_and_cap():
    mean, std, low, high = describe(np.array([1.0, 2.0, 3.0]))
    assert (mean, std) == (2, 1)
    assert 1 <= low < 2 < high <= 3
    assert np.isnan(describe(np.array([]))).all()
    assert capped(np.array([np.inf, 30, -np.inf])).tolist()[:2] == [PSNR_CAP, 30]


def test_the_papers_table_pools_squared_errors_per_batch():
    psnr = np.random.default_rng(3).uniform(20, 35, size=70)
    mse = 255**2 * 10 ** (-psnr / 10)
    batches = [mse[:32].mean(), mse[32:64].mean(), mse[64:].mean()]
    assert pooled_psnr_chavez2021(psnr) == pytest.approx(np.mean([20 * np.log10(255 / m**0.25) for m in batches]))
    assert pooled_psnr_chavez2021(psnr, batch=1) == pytest.approx(np.mean((psnr + 20 * np.log10(255)) / 2))
    with pytest.raises(FlowpriorError, match="at least one image, got 0"):
        pooled_psnr_chavez2021(psnr, batch=0)


def test_a_file_that_could_not_be_finished_is_not_there(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    for text in ("first", "second"):
        with replacing(path) as part:
            part.write_text(text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]
