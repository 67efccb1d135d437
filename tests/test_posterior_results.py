"""What a result says beside its image, standard deviations and samples, stays with its image."""

import torch

from flowprior import operators, solvers
from flowprior.registry import SettingsModel
from flowprior.solvers.averaging import averaged
from flowprior.solvers.base import Context, Result, Solver, Trace

SHAPE = (1, 2, 2)
NAMES = ("a", "b", "c")


def result_of(images, std=None, samples=None):
    count = len(images)
    trace = Trace(torch.zeros(1), torch.zeros(1), {})
    return Result(images, ("ok",) * count, torch.ones(count).bool(), torch.ones(count), 1.0, trace, std, samples)


class Telling(Solver):
    """Says its measurement, twice and three times it."""

    name = "telling"
    needs = None
    per_row = ("factor",)

    class Settings(SettingsModel):
        """What a measurement is multiplied by."""

        factor: float = 1.0

    def run(self, operator, y, prior, context):
        y = y * self.value_per_image("factor", y, context).reshape(-1, 1, 1, 1)
        return result_of(y, 2 * y, torch.stack([3 * y, 4 * y], dim=1))


def test_a_sweep_divides_them_among_its_settings(monkeypatch):
    monkeypatch.setitem(solvers.REGISTRY._places, "telling", f"{__name__}:Telling")
    y, operator = torch.rand(3, *SHAPE), operators.build("identity", SHAPE)
    points = [{"factor": 1.0}, {"factor": 0.5}]
    seen = 0
    for part in solvers.solve_points("telling", operator, y, None, points, keys=NAMES, batch=2):
        wanted = points[part.point]["factor"] * y[part.images]
        torch.testing.assert_close(part.result.std, 2 * wanted)
        torch.testing.assert_close(part.result.samples, torch.stack([3 * wanted, 4 * wanted], dim=1))
        seen += len(wanted)
    assert seen == 6


def test_copies_of_an_image_are_a_mixture():
    images, std = torch.rand(6, *SHAPE), torch.rand(6, *SHAPE)
    samples = torch.rand(6, 5, *SHAPE)
    found = averaged(2, Context(NAMES), lambda context: result_of(images, std, samples))
    assert found.samples.shape == (3, 10, *SHAPE)
    assert torch.equal(found.samples[1], samples[2:4].flatten(0, 1))
    # Of the two normal distributions of the second image, each as likely.
    draws = images[2:4] + std[2:4] * torch.randn(100000, 2, *SHAPE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found.std[1], draws.flatten(0, 1).std(0), rtol=0.02, atol=0)
    torch.testing.assert_close(found.images[1], images[2:4].mean(0))


def test_without_them_there_are_none():
    found = averaged(2, Context(NAMES), lambda context: result_of(torch.rand(6, *SHAPE)))
    assert found.std is None and found.samples is None
