"""What jobs keep beside pictures: of each image its own, at each setting."""

import numpy as np
import torch

from flowprior.experiment.maps import SAMPLES, Collector, Maps
from flowprior.images.quantise import to_pixels
from flowprior.solvers.base import Result, Trace

SHAPE = (3, 4, 5)


def result_of(count, std=None, samples=None):
    trace = Trace(torch.zeros(1), torch.zeros(1), {})
    return Result(
        torch.rand(count, *SHAPE),
        ("ok",) * count,
        torch.ones(count).bool(),
        torch.ones(count),
        1.0,
        trace,
        std,
        samples,
    )


def test_parts_are_put_together_and_survive_the_disk(tmp_path):
    std, samples = torch.rand(5, *SHAPE), torch.rand(5, SAMPLES + 3, *SHAPE)
    collector = Collector(5)
    for part in (slice(2, 5), slice(0, 2)):
        images = range(5)[part]
        collector.add(1, part, result_of(len(images), std[part], samples[part]))
        collector.add(0, part, result_of(len(images), std=2 * std[part]))
    collector.maps().save(tmp_path / "0.maps.npz")
    first, second = (Maps.load(tmp_path / "0.maps.npz", point) for point in (0, 1))
    assert first.samples == {} and list(first.std) == [0]
    assert np.allclose(first.std[0], 2 * std.permute(0, 2, 3, 1).numpy(), atol=2e-3)
    assert np.allclose(second.std[1], std.permute(0, 2, 3, 1).numpy(), atol=1e-3)
    assert second.samples[1].shape == (5, SAMPLES, 4, 5, 3)
    assert np.array_equal(second.samples[1][3], to_pixels(samples[3, :SAMPLES]))


def test_of_a_method_that_says_nothing_an_empty_archive_is_left(tmp_path):
    collector = Collector(2)
    collector.add(0, slice(0, 2), result_of(2))
    collector.maps().save(tmp_path / "0.maps.npz")
    assert (tmp_path / "0.maps.npz").exists()
    assert Maps.load(tmp_path / "0.maps.npz", 0) == Maps() == Maps.load(tmp_path / "missing.npz", 0)


def test_the_same_maps_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        Maps({0: np.ones((1, 2, 2, 3), np.float16)}).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
