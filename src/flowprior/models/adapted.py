"""A model that decodes with weights of its own for each image, all of a batch at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from flowprior.errors import FlowpriorError
from flowprior.models.capabilities import Decodes


class Adapted:
    """Images of latents by a model's weights plus a change of them, one for each image; the model itself stays.

    Averages that a model keeps beside its weights (of batch norms) are the same for all.

    Args:
        model: of whose weights changes are; a torch module.

    Attributes:
        parameters: numbers in one change, those of all weights.

    Raises:
        FlowpriorError: the model has no weights.
    """

    def __init__(self, model: Decodes) -> None:
        if not isinstance(model, nn.Module) or not any(True for _ in model.parameters()):
            raise FlowpriorError(
                f"{type(model).__name__} has no weights to adapt to an image; give a torch module, or use csgm"
            )
        self._latent_shape = model.latent_shape
        # Gradients that are written by hand, as of a reversible flow, are none that torch makes a batch of.
        self._one_by_one = getattr(model, "reversible", False)
        self._decoding = _Decoding(model)
        self._weights = {name: weight.detach() for name, weight in self._decoding.named_parameters()}
        self._sizes = [weight.numel() for weight in self._weights.values()]
        self.parameters = sum(self._sizes)

    def images(self, latents: Tensor, changes: Tensor) -> Tensor:
        """Images (N, C, H, W), not clipped.

        Args:
            latents: flat (N, D).
            changes: of the weights, flat (N, parameters).
        """
        count = len(latents)
        stacked = {
            name: weight + change.reshape(count, *weight.shape)
            for (name, weight), change in zip(self._weights.items(), changes.split(self._sizes, 1), strict=True)
        }
        shaped = latents.reshape(count, 1, *self._latent_shape)
        if self._one_by_one:
            each = ({name: weight[i] for name, weight in stacked.items()} for i in range(count))
            return torch.cat([self._one(weights, latent) for weights, latent in zip(each, shaped, strict=True)])
        found: Tensor = vmap(self._one, randomness="error")(stacked, shaped)
        return found[:, 0]

    def _one(self, weights: dict[str, Tensor], latent: Tensor) -> Any:
        return functional_call(self._decoding, weights, (latent,))


class _Decoding(nn.Module):
    """A model whose call is its `decode`, as `functional_call` asks."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        """Images of latents."""
        images: Tensor = self.model.decode(z)
        return images
