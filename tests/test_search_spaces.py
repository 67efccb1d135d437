"""Synthesis and analysis: their objectives, where they agree by mathematics, starts, checkerboards."""

import pytest
import torch
from pieces import small_flow, small_operator

from flowprior import solvers
from flowprior.errors import FlowpriorError
from flowprior.solvers.penalties import checkerboard_energy

SHAPE = (3, 8, 8)
NAMES = ("a", "b")
#: Settings that run a search to its end.
LONG = {"steps": 400, "tolerance": 1e-12}


def problem(name="box_blur", dtype=torch.float64):
    operator = small_operator(name, SHAPE)
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(2)).to(dtype)
    return operator, operator.measure(x, 0.05, torch.Generator().manual_seed(4))


def linear_flow():
    """A fresh additive Glow: every coupling is the identity, so that the whole flow is linear."""
    flow = small_flow("glow", SHAPE, coupling="additive", levels=1, steps=1, hidden=4)
    with torch.no_grad():
        for module in flow.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.zero_()
                module.bias.zero_()
    return flow


def solved(name, operator, y, prior, **settings):
    found = solvers.solve(name, operator, y, prior, keys=NAMES, **settings)
    assert set(found.status) == {"ok"}
    return found


def squares(batch):
    return batch.square().flatten(1).sum(1)


class TestObjectives:
    def test_synthesis_is_equation_3(self):
        (operator, y), flow = problem(), small_flow("haar_glow", SHAPE)
        seen = solved("synthesis", operator, y, flow, weight=0.1, init_std=0.5, steps=1, learning_rate=1e-12)
        images, _ = flow.inverse(seen.latents)
        torch.testing.assert_close(seen.trace.values["data_fit"][0], squares(operator.A(images) - y) / 2)
        norms = seen.latents.square().sum(1)
        assert bool((norms > 10).all())
        torch.testing.assert_close(seen.trace.values["loss"][0], squares(operator.A(images) - y) / 2 + 0.1 * norms)

    @pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
    def test_analysis_is_equation_4(self, optimiser):
        (operator, y), flow = problem(), small_flow("haar_glow", SHAPE)
        start = torch.rand(2, *SHAPE, dtype=torch.float64)
        settings = {"weight": 0.1, "steps": 1, "optimiser": optimiser, "start_images": start}
        seen = solved("analysis", operator, y, flow, **settings).trace.values
        norms = flow.encode(start).square().sum(1)
        torch.testing.assert_close(seen["data_fit"][0], squares(operator.A(start) - y) / 2)
        torch.testing.assert_close(seen["loss"][0], squares(operator.A(start) - y) / 2 + 0.1 * norms)


@pytest.mark.parametrize("operator_name", ["box_blur", "random_mask", "block_mean"])
def test_with_a_linear_flow_all_have_the_one_minimum(operator_name):
    """There a change of variables changes nothing, and the log-determinant is a constant."""
    (operator, y), flow, weight = problem(operator_name), linear_flow(), 0.05
    matrix = torch.autograd.functional.jacobian(
        lambda x: flow.encode(x[None])[0], torch.zeros(SHAPE, dtype=torch.float64)
    ).reshape(192, 192)
    offset, forward = flow.encode(torch.zeros(1, *SHAPE, dtype=torch.float64))[0], operator.matrix()
    left = forward.T @ forward / 2 + weight * matrix.T @ matrix
    right = y.flatten(1) @ forward / 2 - weight * offset @ matrix
    wanted = torch.linalg.solve(left, right.T).T.reshape(2, *SHAPE).clamp(0, 1)
    exact = {"optimiser": "lbfgs", **LONG}
    found = {
        "synthesis": solved("synthesis", operator, y, flow, weight=weight, **exact),
        "analysis": solved("analysis", operator, y, flow, weight=weight, **exact),
        "map": solved(
            "map", operator, y, flow, noise_std=(2 * weight) ** 0.5, tempering=0.0, start="zero_latent", **exact
        ),
    }
    for name, result in found.items():
        torch.testing.assert_close(result.images, wanted, rtol=0, atol=2e-4, msg=name)


class TestStarts:
    def test_the_same_random_start_for_a_latent_and_its_image(self):
        (operator, y), flow = problem(), small_flow("haar_glow", SHAPE, scale=0.01)
        still = {"init_std": 0.05, "steps": 1, "learning_rate": 1e-12}
        latent = solved("synthesis", operator, y, flow, optimiser="lbfgs", **still)
        for name in ("analysis", "map"):
            settings = {"start": "zero_latent", **still}
            torch.testing.assert_close(solved(name, operator, y, flow, **settings).images, latent.images)
        other = solvers.solve("analysis", operator, y, flow, keys=NAMES, seed=1, start="zero_latent", **still)
        assert not torch.allclose(other.images, latent.images)

    def test_all_can_begin_where_map_does(self):
        (operator, y), flow = problem("block_mean"), small_flow("haar_glow", SHAPE)
        still = {"start": "sample_moments", "samples": 300, "steps": 1, "learning_rate": 1e-12}
        ours = solved("analysis", operator, y, flow, weight=0.5 * 0.05**2, **still)
        theirs = solved("map", operator, y, flow, noise_std=0.05, **still)
        torch.testing.assert_close(ours.images, theirs.images, rtol=0, atol=1e-6)
        assert torch.equal(ours.passes, theirs.passes)
        latent = solved("synthesis", operator, y, flow, weight=0.5 * 0.05**2, optimiser="lbfgs", **still)
        torch.testing.assert_close(latent.images, theirs.images, rtol=0, atol=1e-5)

    def test_uniform_pixels_follow_an_images_name(self):
        (operator, y), flow = problem(), small_flow("haar_glow", SHAPE)
        settings = {"start": "uniform", "steps": 1, "learning_rate": 1e-12}
        found = solved("analysis", operator, y, flow, **settings).images
        assert 0.45 < float(found.mean()) < 0.55 and 0.25 < float(found.std()) < 0.33
        swapped = solvers.solve("analysis", operator, y, flow, keys=NAMES[::-1], **settings).images
        assert torch.equal(found, swapped.flip(0))

    @pytest.mark.parametrize("solver", ["analysis", "map"])
    def test_only_a_latent_is_spread(self, solver):
        operator, y = problem()
        with pytest.raises(FlowpriorError, match="init_std spreads a latent, and start is 'pseudo_inverse'"):
            solvers.solve(solver, operator, y, small_flow("haar_glow"), init_std=0.1, start="pseudo_inverse")

    def test_the_pseudo_inverse_of_a_smaller_measurement_is_a_start(self):
        operator, y = problem("block_mean")
        still = {"steps": 1, "learning_rate": 1e-12, "start": "pseudo_inverse"}
        found = solved("analysis", operator, y, small_flow("haar_glow"), **still).images
        torch.testing.assert_close(found, operator.A_dagger(y).clamp(0, 1))


class TestCheckerboard:
    @pytest.mark.parametrize(("cells", "side"), [(1, 8), (2, 8), (4, 16), (2, 6), (3, 8)])
    def test_is_the_share_of_the_board_and_blind_to_what_is_flat(self, cells, side):
        index = torch.arange(side, dtype=torch.float64) // cells
        board = 1 - 2 * ((index[:, None] + index) % 2)
        x = torch.rand(2, 3, side, side, dtype=torch.float64)
        torch.testing.assert_close(checkerboard_energy(x + 0.3, cells), checkerboard_energy(x, cells))
        pure = 0.5 + 0.5 * (board - board.mean()).expand(1, 3, side, side)
        wanted = 3 * 0.25 * (board - board.mean()).square().sum()
        torch.testing.assert_close(checkerboard_energy(pure, cells)[0], wanted)
        # By Cauchy and Schwarz, no image has more of a board than it has contrast.
        contrast = squares(x - x.mean((2, 3), keepdim=True))
        assert bool((checkerboard_energy(x, cells) <= contrast).all())

    def test_an_image_within_one_cell_is_refused(self):
        with pytest.raises(FlowpriorError, match="less than a side of the image 4x4, got 4"):
            checkerboard_energy(torch.zeros(1, 3, 4, 4), 4)

    @pytest.mark.parametrize("solver", ["synthesis", "analysis"])
    def test_what_is_weighed_heavily_goes(self, solver):
        operator, flow = small_operator("identity", SHAPE), small_flow("haar_glow", SHAPE)
        index = torch.arange(8, dtype=torch.float64) // 2
        y = (0.5 + 0.2 * (1 - 2 * ((index[:, None] + index) % 2))).expand(2, *SHAPE).clone()
        settings = {"weight": 1e-3, "optimiser": "lbfgs", "steps": 40}
        plain, without = (
            checkerboard_energy(solved(solver, operator, y, flow, checkerboard=c, **settings).images, 2)
            for c in (0.0, 100.0)
        )
        assert bool((without < 0.01 * plain).all())
