"""What models can do is what their protocols say."""

import re
from pathlib import Path

import pytest
import torch
from pieces import small_flow

from flowprior import operators, solvers
from flowprior.errors import FlowpriorError
from flowprior.experiment.params import Experiment
from flowprior.experiment.parts import NO_PRIOR
from flowprior.experiment.pieces import fitted_models
from flowprior.experiment.plan import fitted_priors
from flowprior.models import flows
from flowprior.models.capabilities import CAPABILITIES, Decodes, Density, Invertible, LinearGaussian, Solves, missing
from flowprior.models.gaussian import Gaussian


@pytest.mark.parametrize("name", flows.names())
def test_every_flow_is_invertible(name):
    flow = small_flow(name)
    assert isinstance(flow, Invertible) and isinstance(flow, Decodes) and isinstance(flow, Density)
    x = torch.rand(3, *flow.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = flow.encode(x)
    assert z.shape == (3, *flow.latent_shape)
    torch.testing.assert_close(flow.decode(z), x, atol=1e-4, rtol=0)
    torch.testing.assert_close(z, flow.forward(x)[0])


def test_what_is_missing_is_named():
    flow = small_flow("haar_glow")
    assert missing(flow, Invertible) == []
    assert missing(flow, LinearGaussian) == ["coloured", "observed"]
    assert missing(flow, Solves) == ["solve"]
    assert not isinstance(flow, LinearGaussian)


@pytest.mark.parametrize("name", solvers.names())
def test_a_solver_refuses_a_prior_that_lacks_what_it_needs(name):
    solver = solvers.REGISTRY.get(name)
    if solver.needs is None:
        pytest.skip("it asks no prior")
    assert solver.needs in CAPABILITIES
    operator = operators.build("identity", (3, 8, 8))
    with pytest.raises(FlowpriorError, match=f"needs a prior that is {solver.needs.__name__}, got object without"):
        solvers.solve(name, operator, torch.rand(1, 3, 8, 8), object())


def experiment(**changes):
    facts = {"priors": {"p": {"flow": "glow"}}, "tasks": {"t": {"operator": "identity"}}, "methods": {"map": {}}}
    return Experiment(name="x", **{**facts, **changes})


def test_priors_of_a_method_are_those_that_can_what_it_needs():
    assert experiment().priors_of("map") == ("p",)
    assert experiment(methods={"linear_mmse": {}}).priors_of("linear_mmse") == fitted_models("LinearEstimate")[:1]
    assert experiment(methods={"bm3d": {}}).priors_of("bm3d") == (NO_PRIOR,)
    assert fitted_priors(experiment(methods={"bm3d": {}, "map": {}, "linear_mmse": {}})) == ("gaussian",)
    with pytest.raises(FlowpriorError, match="method 'chavez' needs a model that is Invertible"):
        experiment(priors={}, methods={"chavez": {}}).priors_of("chavez")


def test_map_under_a_gaussian_is_its_posterior_mean():
    """Any density will do, and of this one the mode has a closed form."""
    shape = (3, 6, 6)
    source = torch.Generator().manual_seed(1)
    gaussian = Gaussian.fit(0.3 + 0.4 * torch.rand(4000, *shape, generator=source))
    operator = operators.build("box_blur", shape)
    y = operator.measure(0.3 + 0.4 * torch.rand(2, *shape, generator=source), 0.1, source).double()
    wanted = solvers.solve("linear_mmse", operator, y, gaussian, noise_std=0.1).images
    for start in ("pseudo_inverse", "sample_moments"):
        found = solvers.solve(
            "map", operator, y, gaussian, noise_std=0.1, tempering=0.0, tolerance=1e-12, steps=300, start=start
        )
        torch.testing.assert_close(found.images, wanted, rtol=0, atol=1e-4)
    with pytest.raises(FlowpriorError, match="start 'zero_latent' needs a model that decodes latents"):
        solvers.solve("map", operator, y, gaussian, start="zero_latent")


def test_no_room_names_a_prior_of_a_kind():
    """Rules, profiles and reports go by what models and solvers say of themselves."""
    root = Path(__file__).parents[1]
    tracked = [*(root / "src").rglob("*.py"), *(root / "workflow").rglob("*.*"), *(root / "profiles").rglob("*.yaml")]
    own = {"gaussian.py", "experiment.schema.json"}
    named = [path for path in tracked if path.name not in own and re.search("[\"']gaussian[\"']", path.read_text())]
    assert [path.parent.name for path in named] == ["models"]  # the registry's line
