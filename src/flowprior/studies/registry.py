"""Every study by its name. To add one: its file, and its line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowprior.registry import Registry

if TYPE_CHECKING:
    from flowprior.studies.base import Study

REGISTRY: Registry[Study] = Registry(
    "study",
    {
        "curves": "flowprior.studies.curves:Curves",
        "jacobian_spectrum": "flowprior.studies.jacobian:JacobianSpectrum",
        "steps_in_latents": "flowprior.studies.directions:StepsInLatents",
        "linear_bounds": "flowprior.studies.linear_bounds:LinearBounds",
        "planar_flow": "flowprior.studies.planar:PlanarFlow",
        "null_space_start": "flowprior.studies.null_space:NullSpaceStart",
        "latent_histogram": "flowprior.studies.latent_histogram:LatentHistogram",
        "start_spread": "flowprior.studies.start_spread:StartSpread",
        "log_det_share": "flowprior.studies.log_det_share:LogDetShare",
        "search_spaces": "flowprior.studies.search_spaces:SearchSpaces",
        "likelihoods": "flowprior.studies.likelihoods:Likelihoods",
    },
)
