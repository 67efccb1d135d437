"""What networks in half precision cost a search, and whom the setting reaches.

An image ends elsewhere, up to a tenth of a decibel better or worse; it is the mean over images that must not fall.
"""

import pytest
import torch
from pieces import pictures, small_operator

from flowprior import operators, solvers
from flowprior.device import use_tensor_cores
from flowprior.errors import FlowpriorError
from flowprior.evaluation.metrics import psnr
from flowprior.models import flows
from flowprior.models.evaluator import evaluator
from flowprior.models.flows.evaluators import FoldedFlow, compiled
from flowprior.models.flows.layers import Bijection
from flowprior.training.loop import train
from flowprior.training.settings import TrainingSettings

pytestmark = pytest.mark.slow

SHAPE = (3, 8, 8)
#: solver, operator, its noise, settings
SEARCHES = [
    ("map", operators.build("identity", SHAPE), 0.06, {"noise_std": 0.06, "steps": 80}),
    ("map", operators.build("box_blur", SHAPE, size=3), 0.02, {"noise_std": 0.02, "start": "measurement", "steps": 80}),
    ("chavez", operators.build("identity", SHAPE), 0.06, {"alpha": 0.05}),
    ("chavez", operators.build("box_blur", SHAPE, size=3), 0.02, {"alpha": 0.02}),
]


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(7)
    flow = flows.build("haar_glow", SHAPE, levels=2, steps=2, hidden=16)
    settings = TrainingSettings(steps=150, batch=32, validate_every=150, warmup=10, learning_rate=5e-3, ema=0.9)
    return train(flow, pictures(512, 0), pictures(16, 1), 8, settings, (0, "test")).model


@pytest.mark.usefixtures("no_kernel")
@pytest.mark.parametrize(("solver", "operator", "noise_std", "settings"), SEARCHES)
def test_half_precision_costs_at_most_a_fiftieth_of_a_decibel(trained, solver, operator, noise_std, settings):
    truth = torch.from_numpy(pictures(64, 2)).permute(0, 3, 1, 2) / 255
    y = operator.measure(truth, noise_std, torch.Generator().manual_seed(3))
    found = {
        precision: solvers.solve(solver, operator, y, trained, precision=precision, **settings)
        for precision in ("float32", "bf16")
    }
    full, half = (psnr(result.images, truth, 1.0) for result in found.values())
    assert not torch.equal(found["float32"].images, found["bf16"].images)
    # A search that gives nothing would lose nothing.
    assert full.mean() > psnr(y.clamp(0, 1), truth, 1.0).mean() + 1
    assert float((half - full).mean()) == pytest.approx(0, abs=0.02)


@pytest.mark.usefixtures("no_kernel")
def test_the_setting_reaches_the_networks_where_torch_runs_them(trained):
    x = torch.rand(2, *SHAPE)
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        with evaluator(trained, precision=precision, kernel=False) as prior:
            assert torch.equal(prior.log_prob(x), FoldedFlow(trained, dtype).log_prob(x))
            # Derived from the flow once for all calls that share a memory.
            with evaluator(trained, precision=precision, kernel=False) as again:
                assert again is prior


@pytest.mark.skipif(compiled.kernel() is None, reason="no C compiler on this machine")
def test_the_kernel_computes_in_float32_whatever_the_setting(trained):
    operator = small_operator("identity", SHAPE)
    found = [
        solvers.solve("map", operator, torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1)), trained,
                      steps=3, precision=precision, start="zero_latent", optimiser="adam").images
        for precision in ("float32", "bf16")
    ]  # fmt: skip
    assert torch.equal(*found)


def test_half_precision_of_a_flow_that_cannot_be_folded_is_refused():
    class Odd(Bijection):
        def forward(self, x):
            return x, x.new_zeros(len(x))

        inverse = forward

    flow = flows.build("haar_glow", SHAPE, levels=2, steps=1, hidden=4)
    flow.levels[0].parts.append(Odd())
    operator = small_operator("identity", SHAPE)
    with pytest.raises(FlowpriorError, match=r"'haar_glow' can not be solved with in bf16.*Odd; set precision: float3"):
        solvers.solve("map", operator, torch.rand(2, *SHAPE), flow, steps=1, precision="bf16")
    assert all(parameter.requires_grad for parameter in flow.parameters())


@pytest.mark.parametrize(("device", "convolutions", "products"), [("cpu", False, True), ("cuda", True, False)])
def test_on_a_gpu_convolutions_may_round_and_matrix_products_may_not(device, convolutions, products):
    network, matrix = torch.backends.cudnn, torch.backends.cuda.matmul
    before = network.allow_tf32, matrix.allow_tf32
    try:
        network.allow_tf32, matrix.allow_tf32 = False, True
        use_tensor_cores(torch.device(device))
        assert (network.allow_tf32, matrix.allow_tf32) == (convolutions, products)
    finally:
        network.allow_tf32, matrix.allow_tf32 = before
