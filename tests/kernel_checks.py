"""What the kernel must find, by whatever compiler and at whatever width: the flow's own values and gradients."""

import torch

from flowprior.models.flows.evaluators import KernelFlow, KernelLikelihood


def rows(count, dimensions, scale=0.5, seed=0):
    return scale * torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=2e-4, atol=2e-5 * float(wanted.abs().max()))


def check_both_directions(flow):
    """Values, log-determinants and gradients by the input of both directions."""
    fixed = KernelFlow(flow)
    x = torch.rand(5, *flow.shape, generator=torch.Generator().manual_seed(1))
    # A latent that images have: far from all of them, rounding grows in any program.
    z = flow(x)[0].detach()
    by_values, by_log_det = rows(5, flow.dimensions, seed=2), rows(5, 1, seed=3)[:, 0]
    for start, exact, quick in ((x, flow, fixed), (z, flow.inverse, fixed.inverse)):
        ends = []
        for function in (exact, quick):
            variable = start.clone().requires_grad_(True)
            values, log_det = function(variable)
            objective = (values.flatten(1) * by_values).sum() + (log_det * by_log_det).sum()
            ends.append((values, log_det, torch.autograd.grad(objective, variable)[0]))
        for found, wanted in zip(ends[1], ends[0], strict=True):
            close(found.detach(), wanted.detach())
    close(fixed.log_prob(x), flow.log_prob(x).detach())


def check_gradients_by_weights(flow):
    """The loss and its gradient by all weights, before and after these change."""
    likelihood = KernelLikelihood(flow)
    x = torch.rand(21, *flow.shape, generator=torch.Generator().manual_seed(1))
    for change in (1.0, 1.02):  # what is written once must follow the weights
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter *= change
        likelihood.refresh()
        shares = [likelihood.share(part) for part in x.split([3, 17, 1])]
        loss = -flow.log_prob(x).mean()
        wanted = torch.autograd.grad(loss, list(flow.parameters()))
        close(torch.stack([share.neg_log_prob for share in shares]).sum().float() / 21, loss.detach())
        for found, gradient in zip(likelihood.gradients(shares, 1 / 21), wanted, strict=True):
            close(found, gradient)


def check_batches(flow):
    """An image alone, among others, by more threads and in larger chunks is the same to the bit."""
    fixed = KernelFlow(flow)
    x = torch.rand(37, *flow.shape, generator=torch.Generator().manual_seed(1))
    whole = fixed.log_prob(x)
    for number in (1, 2, 3):
        assert torch.equal(fixed.with_threads(number).log_prob(x), whole)
    for start, stop in ((0, 1), (5, 12), (7, 16), (20, 37)):
        assert torch.equal(fixed.log_prob(x[start:stop]), whole[start:stop])
    assert fixed.log_prob(x[:0]).shape == (0,)
