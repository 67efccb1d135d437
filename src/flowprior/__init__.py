"""Flowprior: how good is a generative flow as the prior of an imaging inverse problem?

import flowprior as fp
flow     = fp.flows.build("haar_glow", shape=(3, 32, 32), levels=4, steps=4, hidden=64)
operator = fp.operators.build("box_blur", shape=(3, 32, 32), size=3)
y        = operator.measure(x, noise_std=0.02, generator=g)
result   = fp.solvers.solve("map", operator, y, prior=flow, noise_std=0.02, steps=200)
psnr     = fp.evaluation.psnr(result.images, x, data_range=1.0)
"""

from flowprior import evaluation, models, operators, solvers
from flowprior.models import flows

__all__ = ["evaluation", "flows", "models", "operators", "solvers"]
__version__ = "0.1.0"
