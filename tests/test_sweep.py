"""Settings as a batch dimension: the same results as separate runs, in any division."""

import pytest
import torch
from pieces import small_flow, small_operator

from flowprior import solvers
from flowprior.errors import FlowpriorError
from flowprior.solvers.sizing import rows_at_once, vectors_of

SHAPE = (3, 8, 8)
NAMES = ("a", "b", "c", "d", "e")
SWEEPS = {
    "map": [{"noise_std": value, "steps": 12} for value in (0.02, 0.1)],
    "chavez": [{"alpha": value, "steps": 12, "restarts": 2} for value in (0.0, 0.02, 0.5)],
    "csgm": [{"gamma": value, "steps": 12, "restarts": 2, "combine": "best"} for value in (0.01, 1.0)],
    "synthesis": [{"weight": value, "steps": 12} for value in (0.0, 0.01)],
    "analysis": [{"weight": value, "steps": 12, "optimiser": "adam"} for value in (1e-4, 0.01, 1.0)],
    # Rates differ: these can not share a batch. A field left out is not the field at another value.
    "glowip": [{"learning_rate": 0.1, "steps": 9}, {"learning_rate": 0.2, "steps": 9}, {"gamma": 0.1, "steps": 9}],
}


@pytest.mark.parametrize("batch", [3, 100, "auto"])
@pytest.mark.parametrize("solver", SWEEPS)
def test_a_sweep_in_one_batch_is_its_settings_apart(solver, batch):
    operator = small_operator("box_blur", SHAPE)
    flow = small_flow("haar_glow", SHAPE, torch.float32)
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(2))
    y = operator.measure(x, 0.05, torch.Generator().manual_seed(4))
    points = SWEEPS[solver]
    seen, told = {}, []

    def observer(numbers):
        return lambda images: {"error": (images - x[numbers]).square().flatten(1).mean(1)}

    parts = solvers.solve_points(
        solver, operator, y, flow, points, keys=NAMES, batch=batch, observer=observer, progress=told.append
    )
    for part in parts:
        for place, image in enumerate(range(part.images.start, part.images.stop)):
            assert (part.point, image) not in seen
            trace = part.result.trace.values
            seen[part.point, image] = (
                part.result.images[place],
                part.result.passes[place],
                trace["loss"][:, place],
                trace["error"][:, place],
            )
    assert len(seen) == len(points) * len(y)
    assert told == sorted(told) and told[-1] == 1
    for number, point in enumerate(points):
        apart = solvers.solve(
            solver,
            operator,
            y,
            flow,
            keys=NAMES,
            observer=lambda images: {"error": (images - x).square().flatten(1).mean(1)},
            **point,
        )
        for image in range(len(y)):
            pixels, passes, loss, error = seen[number, image]
            torch.testing.assert_close(pixels, apart.images[image], rtol=0, atol=1e-4)
            assert passes == apart.passes[image]
            torch.testing.assert_close(loss, apart.trace.values["loss"][:, image], rtol=1e-3, atol=1e-2)
            torch.testing.assert_close(error, apart.trace.values["error"][:, image], rtol=1e-2, atol=1e-5)


def test_settings_of_a_sweep_are_checked_like_any_others():
    operator, flow = small_operator("identity", SHAPE), small_flow("haar_glow", SHAPE, torch.float32)
    y = torch.rand(2, *SHAPE)
    with pytest.raises(FlowpriorError, match="noise_std"):
        list(solvers.solve_points("map", operator, y, flow, [{"noise_std": -1.0}, {"noise_std": 0.1}], keys="ab"))
    with pytest.raises(FlowpriorError, match=r"'steps' of solver 'map' was given per.*given of: noise_std"):
        solvers.solve("map", operator, y, flow, weights={"steps": torch.ones(2)})
    with pytest.raises(FlowpriorError, match=r"with shape \(3,\); one value for each of 2 images"):
        solvers.solve("map", operator, y, flow, weights={"noise_std": torch.ones(3)})


def test_larger_flows_get_smaller_batches(monkeypatch):
    small, large = (small_flow("haar_glow", SHAPE, torch.float32, hidden=width) for width in (6, 60))
    monkeypatch.setattr("flowprior.solvers.sizing._CPU_BUDGET", 2**24)
    assert 1 <= rows_at_once(large) < rows_at_once(small)
    # Where the kernel can not run a flow, autograd's own memory is counted.
    exact = small_flow("haar_glow", SHAPE, torch.float64, hidden=60)
    assert 1 <= rows_at_once(exact) < rows_at_once(small)
    assert rows_at_once(None) == 64
    adam, lbfgs = (solvers.REGISTRY.settings("map", {"optimiser": name}) for name in ("adam", "lbfgs"))
    assert rows_at_once(small, vectors_of(lbfgs)) < rows_at_once(small, vectors_of(adam))
