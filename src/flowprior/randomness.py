"""Random numbers keyed by identity: the same key gives the same numbers, whatever ran before.

Never by order, batch size, method or device: every method sees the same noise on the same image.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import torch

from flowprior.errors import FlowpriorError


def seed_of(*key: object) -> int:
    """A 63-bit seed from the parts of a key.

    Example:
        >>> seed_of(0, "noise", "a.png") == seed_of(0, "noise", "a.png")
        True
        >>> seed_of(0, "noise", "a.png") == seed_of(1, "noise", "a.png")
        False
    """
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*key: object) -> torch.Generator:
    """A CPU generator seeded by identity, for example `generator(seed, dataset, image, operator, "noise")`.

    Numbers are drawn on the CPU and moved, so that a GPU run sees the same noise.
    """
    return torch.Generator().manual_seed(seed_of(*key))


def keyed_rows(
    draw: Callable[..., torch.Tensor], shape: tuple[int, ...], keys: list[tuple[object, ...]]
) -> torch.Tensor:
    """Random numbers, one row per key.

    Args:
        draw: `torch.randn` (standard normal) or `torch.rand` (uniform in [0, 1)).
        shape: shape of one row.
        keys: one identity per row.

    Returns:
        float32 tensor of shape (len(keys), *shape).

    Example:
        >>> both = keyed_rows(torch.rand, (2,), [("a",), ("b",)])
        >>> torch.equal(both[1:], keyed_rows(torch.rand, (2,), [("b",)]))
        True
    """
    return torch.stack([draw(shape, generator=generator(*key)) for key in keys])


def normal_rows(
    count: int, dimensions: int, temperature: float = 1.0, generator: torch.Generator | None = None
) -> torch.Tensor:
    """What samples of a model are made of: normal numbers, never from the global generator.

    Args:
        count: how many rows; there may be none.
        dimensions: numbers of each row.
        temperature: their standard deviation; at 0 they are zeros and take no generator.
        generator: source of the numbers, drawn where it lies.

    Returns:
        float32 tensor of shape (count, dimensions).

    Raises:
        FlowpriorError: no generator, or a count or a temperature that cannot be.

    Example:
        >>> normal_rows(2, 3, temperature=0.0)
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise FlowpriorError(f"count must be a whole number of samples, at least 0, got {count!r}")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise FlowpriorError(f"temperature must be at least 0, got {temperature}; 1 samples the model itself")
    if temperature == 0 and generator is None:
        return torch.zeros(count, dimensions)
    if not isinstance(generator, torch.Generator):
        raise FlowpriorError(
            f"samples need a generator, got {generator!r}; pass generator=torch.Generator().manual_seed(0)"
        )
    return torch.randn(count, dimensions, generator=generator, device=generator.device) * temperature
