"""What models can do is what their protocols say."""

import pytest
import torch
from pieces import small_flow

from flowprior.models import flows
from flowprior.models.capabilities import Decodes, Density, Invertible, LinearGaussian, Solves, missing


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
    assert missing(flow, LinearGaussian) == ["observed"]
    assert missing(flow, Solves) == ["solve"]
    assert not isinstance(flow, LinearGaussian)
