"""Every solver by its name. To add one: its file, and its line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowprior.registry import Registry

if TYPE_CHECKING:
    from flowprior.solvers.base import Solver

REGISTRY: Registry[Solver] = Registry(
    "solver",
    {
        "chavez": "flowprior.solvers.chavez:Chavez",
        "csgm": "flowprior.solvers.csgm:CSGM",
        "iagan": "flowprior.solvers.iagan:IAGAN",
        "glowip": "flowprior.solvers.glowip:GlowIP",
        "map": "flowprior.solvers.map:MAP",
        "synthesis": "flowprior.solvers.synthesis:Synthesis",
        "analysis": "flowprior.solvers.analysis:Analysis",
        "linear_mmse": "flowprior.solvers.linear_mmse:LinearMMSE",
        "linear_posterior": "flowprior.solvers.linear_posterior:LinearPosterior",
        "regressor": "flowprior.solvers.regressor:RegressorSolver",
        "unfolded": "flowprior.solvers.unfolded:UnfoldedSolver",
        "plug_and_play": "flowprior.solvers.plug_and_play:PlugAndPlay",
        "lasso_dct": "flowprior.solvers.lasso:LassoDCT",
        "lasso_wavelet": "flowprior.solvers.lasso:LassoWavelet",
        "tv": "flowprior.solvers.tv:TotalVariation",
        "deep_decoder": "flowprior.solvers.deep_decoder:DeepDecoderSolver",
        "bm3d": "flowprior.solvers.bm3d:BM3D",
    },
)
