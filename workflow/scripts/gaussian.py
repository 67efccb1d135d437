"""Fit the Gaussian prior of linear_mmse: mean and covariance of the training images."""

from pathlib import Path

import numpy as np

from flowprior.device import use_threads
from flowprior.files import replacing
from flowprior.images.quantise import to_float
from flowprior.models.gaussian import Gaussian
from flowprior.progress import job_output

with job_output(snakemake.log[0]):
    use_threads(snakemake.threads)
    gaussian = Gaussian.fit(to_float(np.load(snakemake.input.train)))
    with replacing(Path(snakemake.output.gaussian)) as path:
        gaussian.save(path)
