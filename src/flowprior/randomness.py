"""Random numbers keyed by identity: the same key gives the same numbers, whatever ran before.

Never by order, batch size, method or device: every method sees the same noise on the same image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch


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
