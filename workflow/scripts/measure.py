"""Make the measurements of one task: noise keyed by image, so that every method sees the same."""

from pathlib import Path

import numpy as np

from flowprior import operators
from flowprior.files import replacing
from flowprior.images import load
from flowprior.operators.measuring import measure_images
from flowprior.operators.task import TaskSettings
from flowprior.progress import job_output

with job_output(snakemake.log[0]):
    params = snakemake.params
    task = TaskSettings(**params.task)
    images = load(Path(snakemake.input.images), Path(snakemake.input.manifest), params.number)
    _, height, width, channels = images.pixels.shape
    operator = operators.build(task.operator, (channels, height, width), **task.settings)
    key = (params.seed, params.dataset)
    y = measure_images(operator, images.pixels, images.names, task, params.bits, key, params.task_name)
    with replacing(Path(snakemake.output.measurement)) as path:
        np.savez(path, y=y.numpy(), names=np.array(images.names))
