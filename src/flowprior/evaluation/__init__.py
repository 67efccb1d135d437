"""Metrics per image, paired statistics, selection of hyperparameters.

    psnr = flowprior.evaluation.psnr(result.images, x, data_range=1.0)      # shape (N,)
    table = flowprior.evaluation.evaluate(rows).summary                     # rows: one per image and setting

Nothing heavy (torch, pandas) is imported before the first function is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowprior.evaluation.aggregate import Evaluation, evaluate
    from flowprior.evaluation.metrics import psnr, psnr_chavez2021, ssim
    from flowprior.evaluation.statistics import (
        PSNR_CAP,
        bootstrap_interval,
        describe,
        pooled_psnr_chavez2021,
    )

__all__ = [
    "PSNR_CAP",
    "Evaluation",
    "bootstrap_interval",
    "describe",
    "evaluate",
    "pooled_psnr_chavez2021",
    "psnr",
    "psnr_chavez2021",
    "ssim",
]

_PLACES = {
    "psnr": "metrics",
    "ssim": "metrics",
    "psnr_chavez2021": "metrics",
    "evaluate": "aggregate",
    "Evaluation": "aggregate",
}


def __getattr__(name: str) -> Any:
    """Import a function's module when the function is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_PLACES.get(name, 'statistics')}")
    return getattr(module, name)
