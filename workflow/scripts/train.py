"""Train one flow by maximum likelihood, and draw its samples over temperatures."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from flowprior import flows
from flowprior.device import device_for, use_threads
from flowprior.files import replacing
from flowprior.flows.checkpoint import save_flow
from flowprior.flows.samples import TEMPERATURES, sample_rows, save_grid
from flowprior.flows.training import train
from flowprior.params import PriorSettings
from flowprior.progress import Progress, job_output

with job_output(snakemake.log[0]):
    use_threads(snakemake.threads)
    prior, bits, seed = PriorSettings(**snakemake.params.prior), snakemake.params.bits, snakemake.params.seed
    pixels, validation = np.load(snakemake.input.train, mmap_mode="r"), np.load(snakemake.input.validation)
    shape = (pixels.shape[3], pixels.shape[1], pixels.shape[2])
    torch.manual_seed(seed)
    device = device_for(snakemake.resources.get("gpu", 0))
    flow = flows.build(prior.flow, shape, **prior.settings).to(device)
    workers = snakemake.threads if device.type == "cpu" else 1
    folder = Path(snakemake.output.weights).parent
    progress = Progress(f"train {folder.name}", prior.training.steps)
    state = folder.parent.parent / "training" / folder.name
    trained = train(flow, pixels, validation, bits, prior.training, (seed, "train"), state, progress, workers)
    flow = trained.flow.cpu()
    facts = {"bits": bits, "temperatures": TEMPERATURES, "training": prior.training.model_dump()}
    save_flow(folder, flow, {**trained.facts, **facts})
    with replacing(snakemake.output.history) as path:
        path.write_text("".join(json.dumps(record) + "\n" for record in trained.history))
    with replacing(snakemake.output.samples) as path:
        np.save(path, rows := sample_rows(flow, seed))
    save_grid(rows, Path(snakemake.output.picture))
    # The run is whole: asked for again, it is to be made again, not taken up where it ended.
    shutil.rmtree(state, ignore_errors=True)
