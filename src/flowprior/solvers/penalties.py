"""What `synthesis` and `analysis` (Oberlin & Verm 2021) are weighed by."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from flowprior.errors import FlowpriorError
from flowprior.registry import SettingsModel


class PenaltySettings(SettingsModel):
    """Weights of Eq. 3 and 4 of Oberlin & Verm 2021, and of the penalty that only their program has.

    Values have unit width, as the paper's ([0, 1] - 1/2): weights mean the same. The program's data term lacks the 1/2,
    so its weights are to be halved.
    """

    weight: float = Field(
        1e-4,
        ge=0,
        description="lambda of Eq. 3 and 4 of Oberlin & Verm 2021 (about 1e-4; half of what their program says); it "
        "assumes noise of standard deviation sqrt(2 lambda)",
    )
    checkerboard: float = Field(
        0.0, ge=0, description="weight of the squared correlation with a checkerboard, as their program has it"
    )
    checkerboard_cells: int = Field(2, ge=1, description="side of the checkerboard's cells in pixels")


def checkerboard_energy(x: Tensor, cells: int) -> Tensor:
    """Squared correlation of images with a checkerboard: sum over channels of <x, b>^2.

    b is the board of +1 and -1 whose cells are `cells` pixels wide, less its mean, scaled to unit length: flat images
    have none, and the board itself (+-1/2 around grey) has C * H * W / 4.

    Args:
        x: images (N, C, H, W).
        cells: side of a cell in pixels.

    Returns:
        One value per image (N,).

    Raises:
        FlowpriorError: the image lies within one cell.

    Example:
        >>> board = torch.tensor([[0.0, 1.0], [1.0, 0.0]])[None, None]
        >>> checkerboard_energy(board, 1).item(), checkerboard_energy(torch.ones(1, 1, 2, 2), 1).item()
        (1.0, 0.0)
    """
    height, width = x.shape[-2:]
    rows, columns = (torch.arange(side, device=x.device) // cells for side in (height, width))
    board = 1 - 2 * ((rows[:, None] + columns) % 2).to(x)
    board = board - board.mean()
    length = board.norm()
    if height <= cells and width <= cells:
        raise FlowpriorError(
            f"checkerboard_cells must be less than a side of the image {height}x{width}, got {cells}; use 2"
        )
    return (x * (board / length)).sum(dim=(2, 3)).square().sum(1)
