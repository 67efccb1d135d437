"""Searches in stages: coarse latents first, a data term that grows, a start at the pseudo-inverse's latent."""

import pytest
import torch
from pieces import small_flow, small_operator

from flowprior import solvers
from flowprior.errors import FlowpriorError
from flowprior.optim.problem import SearchSettings, Terms
from flowprior.optim.stages import coarse_stages, stages_of

SHAPE = (3, 8, 8)


def problem(count=3, operator="box_blur"):
    operator = small_operator(operator, SHAPE)
    flow = small_flow("haar_glow", SHAPE, torch.float32)
    x = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))
    return operator, operator.measure(x, 0.01, torch.Generator().manual_seed(2)), flow


def solve(name, *, operator="box_blur", **settings):
    operator, y, flow = problem(operator=operator)
    return solvers.solve(name, operator, y, flow, **settings), flow


def square(x, rows):
    data_fit = (x - 1).square().flatten(1).sum(1)
    prior = x.square().flatten(1).sum(1)
    return Terms(data_fit + prior, data_fit, prior, x[:, :3, None, None])


def test_stages_share_the_steps_and_end_with_the_whole_data_term():
    settings = SearchSettings(steps=10, stages=3, first_data_weight=0.01)
    stages = stages_of(square, settings)
    assert [stage.steps for stage in stages] == [3, 3, 4]
    x = torch.rand(2, 5, generator=torch.Generator().manual_seed(1))
    terms = square(x, slice(None))
    for stage, weight in zip(stages, (0.01, 0.1, 1.0), strict=True):
        found = stage.objective(x, slice(None)).loss
        torch.testing.assert_close(found, weight * terms.data_fit + terms.neg_log_prob)


def test_coarse_stages_move_nothing_finer():
    sizes = [6, 0, 4, 2]
    settings = SearchSettings(steps=20)
    stages = stages_of(square, settings, coarse_stages(sizes, 3))
    assert [stage.steps for stage in stages] == [3, 3, 14]
    for stage, begin in zip(stages, (10, 6, 0), strict=True):
        x = torch.rand(2, 12, generator=torch.Generator().manual_seed(1), requires_grad=True)
        (gradient,) = torch.autograd.grad(stage.objective(x, slice(None)).loss.sum(), x)
        assert (gradient[:, :begin] == 0).all() and (gradient[:, begin:] != 0).all()


def test_a_first_weight_without_a_stage_after_it_is_an_error():
    with pytest.raises(FlowpriorError, match="set 'stages' to 2 or more"):
        stages_of(square, SearchSettings(first_data_weight=0.1))


def test_a_stage_that_ends_early_is_recorded_where_it_ended():
    result, _ = solve("map", optimiser="lbfgs", steps=600, stages=2, first_data_weight=0.5, tolerance=1e-3)
    # A trace counts the row that takes longest in each stage, which need not be the same one.
    assert result.passes.max() < 400 and result.trace.passes[-1] <= result.passes.max() + 20


def test_too_few_steps_name_the_remedy():
    with pytest.raises(FlowpriorError, match="raise 'steps' to 13 or more"):
        stages_of(square, SearchSettings(steps=12, stages=1), [(6, 4), (6, 2)])


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
@pytest.mark.parametrize("name", ["chavez", "map"])
def test_a_search_in_stages_ends_at_the_same_loss(name, optimiser):
    settings = {"optimiser": optimiser, "learning_rate": 0.02, "steps": 400}
    settings |= {"smoothing": 0.01} if name == "chavez" else {}
    at_once, flow = solve(name, **settings)
    more = {"coarse_steps": 30, "start": "pseudo_inverse"} if name == "chavez" else {}
    in_stages, _ = solve(name, stages=4, first_data_weight=0.1, **settings, **more)
    losses = [result.trace.values["loss"][-1] for result in (at_once, in_stages)]
    scale = losses[0].abs() + flow.dimensions
    assert ((losses[1] - losses[0]).abs() < 0.02 * scale).all()
    assert (in_stages.trace.passes.diff() > 0).all()
    assert in_stages.trace.passes[-1] <= 801
    assert (in_stages.passes <= 2 * 400 + (4 + 3) + 1).all()


def test_the_pseudo_inverses_latent_is_a_start_that_fits():
    far, _ = solve("chavez", steps=1)
    near, _ = solve("chavez", steps=1, start="pseudo_inverse", init_std=0.0)
    assert (near.trace.values["data_fit"][0] < 0.2 * far.trace.values["data_fit"][0]).all()


def test_stages_leave_images_apart():
    operator, y, flow = problem(4)
    settings = {"steps": 30, "stages": 3, "first_data_weight": 0.2, "coarse_steps": 5, "learning_rate": 0.05}
    together = solvers.solve("chavez", operator, y, flow, **settings)
    alone = solvers.solve("chavez", operator, y[2:3], flow, keys=["2"], **settings)
    torch.testing.assert_close(together.images[2:3], alone.images, rtol=0, atol=1e-5)


def test_a_row_that_diverges_in_one_stage_stays_there():
    from flowprior.solvers.base import Context
    from flowprior.solvers.searching import search

    settings = SearchSettings(steps=9, stages=3, learning_rate=0.1, schedule="constant")
    first, *others = stages_of(square, settings)

    def breaks(x, rows):
        # Only in the first stage, and only below .45: the second row goes there, the first stays above.
        terms = square(x, rows)
        return terms._replace(loss=torch.where(x.amin(1) < 0.45, torch.nan, terms.loss))

    start = torch.tensor([[0.8] * 3, [0.2] * 3])
    result = search([first._replace(objective=breaks), *others], start, settings, Context(("0", "1")))
    assert result.status == ("ok", "diverged")
    assert torch.equal(result.images[1, :, 0, 0], start[1])
    assert not torch.equal(result.images[0, :, 0, 0], start[0])
