"""The files of an experiment that ran, with a flow that can be loaded: what publishing reads."""

import json

import torch
from PIL import Image
from report_fixture import CALL, SIDE, fabricate, tiny_experiment

from flowprior.models import flows
from flowprior.models.flows.checkpoint import save_flow
from flowprior.provenance.invocation import Invocation
from flowprior.provenance.reproducing import settings_text
from flowprior.report import Layout


def make_tree(root, **changes):
    """Fabricate it below `root`; the experiment."""
    experiment = tiny_experiment(**changes)
    fabricate(root, experiment)
    layout = Layout(experiment, root)
    manifest = json.loads(layout.prepared("manifest").read_text())
    manifest["splits"]["train"] = {"count": 100, "shape": [100, SIDE, SIDE, 3], "sha256": "7a" * 32, "names": []}
    layout.prepared("manifest").write_text(json.dumps(manifest))
    layout.settings.write_text(settings_text(experiment))
    Invocation(**CALL).write(layout.invocation)
    for prior in experiment.priors:
        Image.new("RGB", (8, 8)).save(layout.flow(prior, "picture"))
        save_weights(layout, prior)
    return experiment


def save_weights(layout, prior, seed=0, **facts):
    """A small flow as the checkpoint of a prior, with what its description said before, or says now."""
    torch.manual_seed(seed)
    known = json.loads(layout.flow(prior, "config").read_text())
    kept = {name: known[name] for name in ("bits", "bits_per_dim", "steps", "seconds", "temperatures")}
    flow = flows.build("haar_glow", (3, SIDE, SIDE), levels=2, steps=1, hidden=4)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_flow(layout.flow(prior, "weights").parent, flow, {**kept, **facts})
