"""What a solver gives back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from flowprior.optim.recorder import Trace


@dataclass(frozen=True)
class Result:
    """Reconstructions of a batch.

    Attributes:
        images: (N, C, H, W) in [0, 1].
        status: "ok" or "diverged", one per image; a diverged image is its last finite iterate, or black.
        converged: whether a search would have gained no more than its tolerance (N,), bool, on the CPU; where not, more
            steps would change the image. A closed form has converged, a diverged image has not.
        passes: through the network per image, forward and backward each counted, and each of those that a model of
            several networks or steps takes (`flowprior.models.capabilities.passes_of`) (N,).
        seconds: time that the batch took, observer excluded.
        trace: the way there.
        std: standard deviation of each value's posterior around `images` (N, C, H, W), where the method has one.
        samples: draws from the posterior (N, S, C, H, W), not clipped, where the method makes them.
        latents: what a search over latents found (N, D); None where several were averaged.
    """

    images: Tensor
    status: tuple[str, ...]
    converged: Tensor
    passes: Tensor
    seconds: float
    trace: Trace
    std: Tensor | None = None
    samples: Tensor | None = None
    latents: Tensor | None = None

    def only(self, rows: Tensor) -> Result:
        """Some of the images; seconds stay those of the whole batch.

        Args:
            rows: their numbers, on the CPU.
        """
        there = rows.to(self.images.device)

        def some(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[there if values.device == there.device else rows]

        traced = {name: values[:, rows.to(values.device)] for name, values in self.trace.values.items()}
        return Result(
            self.images[there],
            tuple(self.status[row] for row in rows.tolist()),
            self.converged[rows],
            self.passes[rows.to(self.passes.device)],
            self.seconds,
            replace(self.trace, values=traced),
            some(self.std),
            some(self.samples),
            some(self.latents),
        )
