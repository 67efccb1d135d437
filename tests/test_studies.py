"""Studies: what they say is right where the truth is known, and every one gives the same table twice and a figure."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from pieces import small_flow

from flowprior.errors import FlowpriorError
from flowprior.operators.task import TaskSettings
from flowprior.report import style
from flowprior.studies.base import Subject
from flowprior.studies.jacobian import singular_values
from flowprior.studies.linear_bounds import bounds, recovery_errors
from flowprior.studies.planar import RealNVP, half_moons
from flowprior.studies.published import names as published_names
from flowprior.studies.published import points_of
from flowprior.studies.registry import REGISTRY

#: Settings of every study, small enough for a test.
SMALL = {
    "curves": {"x": "setting.gamma"},
    "jacobian_spectrum": {"images": 2, "values": 5},
    "steps_in_latents": {"images": 3, "lengths": [0.1, 1.0]},
    "linear_bounds": {"values": 12, "measurements": [4, 8], "draws": 50},
    "planar_flow": {"couplings": 4, "hidden": 8, "steps": 20, "grid": 12},
    "null_space_start": {"task": "cs_40", "gammas": [0.0, 0.1], "images": 2, "solver": {"steps": 4}},
    "likelihoods": {"images": 3},
    "latent_histogram": {
        "task": "cs_40",
        "methods": {"synthesis": {"steps": 4}, "near": {"solver": "analysis", "steps": 4}},
        "images": 2,
        "bins": 20,
    },
    "start_spread": {
        "task": "cs_40",
        "methods": {"synthesis": {"steps": 4}, "map": {"steps": 4, "start": "zero_latent"}},
        "images": 2,
        "starts": 3,
    },
    "log_det_share": {"images": 4},
    "search_spaces": {"pairs": [["glowip", "tv"], ["tv", "best"]]},
}


def rows_of(tasks=("cs_20", "cs_40"), gammas=(0.0, 0.1, 1.0)) -> pd.DataFrame:
    """Rows in which gamma 0.1 is best on validation images, and a method without a setting."""
    lines = []
    for task in tasks:
        for split, count in (("validation", 3), ("test", 4)):
            for i in range(count):
                for gamma in gammas:
                    best = 30.0 - 10 * abs(gamma - 0.1) + i
                    lines.append((task, "glowip", "flow", f"gamma={gamma}", {"gamma": gamma}, split, i, best))
                lines.append((task, "tv", "none", "default", {}, split, i, 20.0 + i))
    columns = ["task", "method", "prior", "setting", "settings", "split", "image", "psnr"]
    rows = pd.DataFrame(lines, columns=columns)
    rows["settings"] = rows["settings"].map(json.dumps)
    rows["image"] = rows["split"] + rows["image"].astype(str)
    extra = {"solver": rows["method"], "paper": False, "status": "ok", "ssim": 0.5, "seconds": 1.0, "passes": 2.0}
    return rows.assign(**extra)


def subject_of(name: str) -> Subject:
    study = REGISTRY.get(name)
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return Subject(
        seed=3,
        model=small_flow("haar_glow", dtype=torch.float32) if study.needs else None,
        images=images if study.needs else None,
        names=tuple("abcd"),
        rows=rows_of() if study.reads_rows else None,
        tasks={
            f"cs_{m}": TaskSettings(operator="gaussian_sensing", settings={"measurements": m}, noise_std=0.01)
            for m in (20, 40)
        },
    )


def made(name: str, **settings) -> pd.DataFrame:
    chosen = {**SMALL[name], **settings}
    return REGISTRY.get(name)(REGISTRY.settings(name, chosen)).table(subject_of(name))


def test_every_study_is_tried():
    assert set(SMALL) == set(REGISTRY.names())


@pytest.mark.parametrize("name", REGISTRY.names())
def test_a_study_gives_the_same_table_twice_and_a_figure(name, tmp_path):
    table = made(name)
    pd.testing.assert_frame_equal(table, made(name))
    table.to_csv(tmp_path / "t.csv", index=False)
    read = pd.read_csv(tmp_path / "t.csv", keep_default_na=False, na_values=[""])
    with style.styled():
        figure = style.new_figure(style.TEXT_WIDTH, 2.6)
        REGISTRY.get(name)(REGISTRY.settings(name, SMALL[name])).draw(read, figure)
        style.save(figure, tmp_path / name)
    assert (tmp_path / f"{name}.png").stat().st_size > 5000


def test_singular_values_are_those_of_the_whole_jacobian():
    flow = small_flow("haar_glow", dtype=torch.float64)
    z = torch.randn(flow.dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def decode(latents):
        return flow.decode(latents).flatten(1)

    whole = torch.linalg.svdvals(torch.autograd.functional.jacobian(lambda latent: decode(latent[None])[0], z))
    start = torch.randn(30, len(z), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = singular_values(decode, z, start, iterations=12)
    torch.testing.assert_close(found[:8], whole[:8], rtol=1e-3, atol=0)
    # None is above the true one: each is a singular value of the Jacobian on a subspace.
    assert bool((found <= whole[: len(found)] * (1 + 1e-9)).all())


def test_errors_of_linear_flows_lie_between_the_bounds_and_are_what_least_norm_gives():
    s = 1 / torch.arange(1, 41, dtype=torch.float64)
    for m in (4, 8, 16):
        errors = recovery_errors(s, m, 400, torch.Generator().manual_seed(m))
        low, high = bounds(s, m)
        assert low < float(errors.mean()) < high
    source = torch.Generator().manual_seed(7)
    error = recovery_errors(s, 5, 1, source)
    source = torch.Generator().manual_seed(7)
    a = torch.randn(1, 5, 40, generator=source, dtype=torch.float64)[0] * s
    z = torch.randn(1, 40, 1, generator=source, dtype=torch.float64)[0, :, 0]
    x_hat = s * (torch.linalg.pinv(a) @ (a @ z))
    torch.testing.assert_close(error[0], (x_hat - s * z).square().sum())


def test_the_planar_flow_is_a_flow():
    flow = RealNVP(6, 16, torch.Generator().manual_seed(1)).double()
    x = half_moons(5, torch.Generator().manual_seed(2)).double()
    z, log_det = flow(x)
    torch.testing.assert_close(flow.inverse(z), x)
    for i in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda point: flow(point[None])[0][0], x[i])
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[i])


def test_the_planar_flow_finds_likely_latents_of_unlikely_points():
    table = REGISTRY.get("planar_flow")(
        REGISTRY.settings("planar_flow", {"couplings": 8, "hidden": 32, "steps": 400, "grid": 80})
    ).table(Subject(seed=0))
    odd = table[table["spurious"]]
    data = table[table["kind"] == "data"]
    assert len(odd) > 0 and odd["log_prob_z"].min() > data["log_prob_z"].quantile(0.25) - 1e-6
    assert odd["log_prob_x"].max() < data["log_prob_x"].quantile(0.05) + 1e-6


def test_natural_and_random_steps_have_the_length_that_is_asked_for():
    table = made("steps_in_latents", lengths=[1e-3, 2e-3])
    # Where a flow is smooth, twice the step moves the image twice as far.
    short, long = (table.loc[table["dz"] == length, "dx"].to_numpy() for length in (1e-3, 2e-3))
    np.testing.assert_allclose(long, 2 * short, rtol=0.05)


def test_noise_has_as_many_bits_as_the_density_says():
    table = made("likelihoods")
    assert set(table["kind"]) == {"test images", "other photographs", "uniform noise", "grey"}
    assert np.isfinite(table["bits_per_dim"]).all()


class TestLatentHistogram:
    def test_is_a_density_and_the_images_own_come_first(self):
        table = made("latent_histogram", reach=60.0)
        assert list(dict.fromkeys(table["of"])) == ["images", "synthesis", "near"]
        for _, own in table.groupby("of"):
            width = own["z"].diff().median()
            np.testing.assert_allclose(own["density"].sum() * width, 1 - own["outside"].iloc[0])
            assert (own["outside"] == 0).all()

    def test_of_the_images_it_is_that_of_their_latents(self):
        subject = subject_of("latent_histogram")
        z = subject.model.encode(subject.images[:2]).flatten().detach().numpy()
        own = made("latent_histogram", bins=10, reach=1.0)
        own = own[own["of"] == "images"]
        counts, _ = np.histogram(z, np.linspace(-1, 1, 11))
        np.testing.assert_allclose(own["density"], counts / len(z) / 0.2, atol=1e-3)
        np.testing.assert_allclose(own["rms"], np.sqrt((z.astype(float) ** 2).mean()), rtol=1e-5)

    @pytest.mark.parametrize(
        ("methods", "words"),
        [({"synthesiss": {}}, "did you mean 'synthesis'"), ({"analysis": {"step": 3}}, "unknown setting 'step'")],
    )
    def test_a_misspelt_method_is_found_before_it_begins(self, methods, words):
        with pytest.raises(FlowpriorError, match=words):
            REGISTRY.settings("latent_histogram", {"task": "cs_40", "methods": methods})


class TestStartSpread:
    def test_without_randomness_there_is_no_spread_and_with_it_there_is(self):
        still = made("start_spread", init_std=0.0)
        assert (still["distance"] < 1e-5).all()
        np.testing.assert_allclose(still.groupby(["method", "image"])["psnr"].std(), 0, atol=1e-3)
        spread = made("start_spread", init_std=0.5)
        assert (spread["distance"] > 1e-3).all() and len(spread) == 2 * 2 * 3

    def test_an_image_does_not_depend_on_how_many_there_are(self):
        few, many = made("start_spread", images=1), made("start_spread", images=2)
        first = many[many["image"] == "a"].reset_index(drop=True)
        np.testing.assert_allclose(few["psnr"], first["psnr"], rtol=0, atol=1e-2)


class TestLogDetShare:
    def test_the_parts_are_those_of_the_density(self):
        table = made("log_det_share").set_index("image")
        own = table.loc[list("abcd")]
        constant = 192 / 2 * np.log(2 * np.pi)
        np.testing.assert_allclose(own["half_norm"] + own["minus_log_det"] + constant, own["neg_log_prob"], rtol=1e-5)
        np.testing.assert_allclose(table.loc["(standard deviation)"], own.std(), rtol=1e-6)
        assert table.loc["(correlation with half_norm)", "half_norm"] == pytest.approx(1)

    def test_an_additive_flow_has_the_same_log_determinant_for_all(self):
        flow = small_flow("glow", dtype=torch.float32, coupling="additive")
        subject = dataclasses.replace(subject_of("log_det_share"), model=flow)
        table = REGISTRY.get("log_det_share")(REGISTRY.settings("log_det_share", {})).table(subject).set_index("image")
        assert table.loc["(standard deviation)", "minus_log_det"] < 1e-3
        assert np.isnan(table.loc["(correlation with half_norm)", "minus_log_det"])
        assert table.loc["(correlation with half_norm)", "neg_log_prob"] == pytest.approx(1, abs=1e-4)


class TestSearchSpaces:
    def test_differences_are_of_what_validation_chose(self):
        table = made("search_spaces")
        ours = table[table["method"] == "glowip"]
        # gamma 0.1: 30 + i against 20 + i.
        np.testing.assert_allclose(ours[["difference", "low", "high"]], 10)
        assert ours["task"].tolist() == ["cs_20", "cs_40"] and (ours["images"] == 4).all()
        best = table[table["against"] == "best"]
        assert set(best["other"]) == {"glowip"} and set(best["difference"]) == {-10.0}

    def test_the_best_is_chosen_on_validation_images(self):
        rows = rows_of(tasks=("cs_20",), gammas=(0.1,))
        # Better on test images, worse on validation images.
        other = rows[rows["method"] == "tv"].assign(method="other", solver="other")
        other.loc[other["split"] == "test", "psnr"] = 90.0
        subject = dataclasses.replace(subject_of("search_spaces"), rows=pd.concat([rows, other], ignore_index=True))
        settings = {"pairs": [["tv", "best"], ["other", "glowip"]]}
        study = REGISTRY.get("search_spaces")(REGISTRY.settings("search_spaces", settings))
        table = study.table(subject)
        assert table["other"].tolist() == ["glowip", "glowip"] and table["difference"].iloc[1] > 50

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"pairs": [["nobody", "tv"]]}, "no task has rows of two of nobody, tv"),
            ({"y": "beauty"}, "y is 'beauty', and the metrics"),
        ],
    )
    def test_what_is_not_there_is_said(self, settings, words):
        with pytest.raises(FlowpriorError, match=words):
            made("search_spaces", **settings)

    def test_several_priors_of_a_method_are_refused(self):
        rows = rows_of(tasks=("cs_20",), gammas=(0.1,))
        two = pd.concat([rows, rows.assign(prior="other")], ignore_index=True)
        subject = dataclasses.replace(subject_of("search_spaces"), rows=two)
        study = REGISTRY.get("search_spaces")(REGISTRY.settings("search_spaces", SMALL["search_spaces"]))
        with pytest.raises(FlowpriorError, match="'glowip' ran with several priors"):
            study.table(subject)


class TestCurves:
    def test_along_a_setting_every_value_is_a_point_and_other_methods_are_levels(self):
        table = made("curves")
        ours = table[(table["line"] == "glowip") & (table["panel"] == "cs_20")]
        assert ours["x"].tolist() == [0.0, 0.1, 1.0]
        np.testing.assert_allclose(ours["y"], [29.0 + 1.5, 30.0 + 1.5, 21.0 + 1.5])
        assert table.loc[table["line"] == "tv", "x"].isna().all()
        assert (ours["low"] <= ours["y"]).all() and (ours["images"] == 4).all()

    def test_along_a_property_of_tasks_validation_chooses(self):
        table = made("curves", x="task.measurements")
        ours = table[table["line"] == "glowip"]
        assert ours["x"].tolist() == [20.0, 40.0] and set(table["panel"]) == {""}
        np.testing.assert_allclose(ours["y"], 31.5)

    def test_published_points_stand_beside_under_their_own_name(self):
        table = made("curves", x="task.measurements", published="asim2020_cs")
        theirs = table[table["whose"] == "published"]
        assert {"Glow (paper)", "DCGAN (paper)"} <= set(theirs["line"]) and len(theirs) == 75

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"y": "beauty"}, "y is 'beauty', and the metrics"),
            ({"methods": ["nobody"]}, "name those of the experiment"),
            ({"x": "setting.nothing"}, "nothing here has setting.nothing"),
            ({"x": "gamma"}, "x must be setting.NAME or task.NAME, got 'gamma'"),
            ({"published": "asim2019_cs", "x": "task.measurements"}, "asim2020_cs"),
        ],
    )
    def test_what_is_not_there_is_said(self, settings, words):
        with pytest.raises(FlowpriorError, match=words):
            made("curves", **settings)


@pytest.mark.parametrize("name", published_names())
def test_published_points_are_numbers_of_pictures(name):
    points = points_of(name)
    assert points and all(5 < psnr < 60 and x >= 0 and images > 0 for _, _, x, psnr, images in points)


class TestNullSpaceStart:
    def test_the_start_is_as_far_as_it_says_and_the_search_stays_near_without_a_penalty(self):
        table = made("null_space_start", norms=[0.5], gammas=[0.0], solver={"steps": 1, "learning_rate": 1e-9})
        # Mean squared error of 192 values that were moved by .5 altogether; clipping can only bring them nearer.
        assert (table["start"] >= 10 * np.log10(192 / 0.25) - 1e-3).all()
        np.testing.assert_allclose(table["end"], table["start"], atol=0.05)

    def test_tasks_that_lose_nothing_or_are_not_there_are_refused(self):
        study = REGISTRY.get("null_space_start")
        subject = dataclasses.replace(subject_of("null_space_start"), tasks={"all": TaskSettings(operator="identity")})
        with pytest.raises(FlowpriorError, match="no null space"):
            study(REGISTRY.settings("null_space_start", {"task": "all"})).table(subject)
        with pytest.raises(FlowpriorError, match="there is no task 'cs'"):
            study(REGISTRY.settings("null_space_start", {"task": "cs"})).table(subject)
