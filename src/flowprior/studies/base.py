"""What a study is: a question about models, or about all rows of an experiment, answered by a table and a figure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from flowprior.registry import SettingsModel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor

    from flowprior.operators.task import TaskSettings


@dataclass(frozen=True)
class Subject:
    """What a study looks at; what it does not ask for is not there.

    Attributes:
        seed: of the experiment; every random number of a study follows from it.
        model: the prior, where the study `needs` one.
        images: test images (N, C, H, W) in [0, 1], where it needs a model.
        names: identity of each image.
        rows: every row of the experiment, where the study `reads_rows`.
        tasks: name -> operator and noise, where it `reads_tasks`.
    """

    seed: int
    model: Any = None
    images: Tensor | None = None
    names: tuple[str, ...] = ()
    rows: pd.DataFrame | None = None
    tasks: Mapping[str, TaskSettings] = field(default_factory=dict)


class Study(ABC):
    """A question that has a table for an answer.

    A study is one file: this class, its settings with ranges and descriptions, `table` and `draw`.
    """

    name: ClassVar[str]
    #: What its figure shows, for the line below it.
    caption: ClassVar[str]
    #: The protocol of `flowprior.models.capabilities` that its model must have; None: it asks no model.
    needs: ClassVar[type | None] = None
    #: Whether it reads the rows of all reconstructions.
    reads_rows: ClassVar[bool] = False
    #: Whether it takes operators and noise of the experiment's tasks.
    reads_tasks: ClassVar[bool] = False

    Settings: ClassVar[type[SettingsModel]] = SettingsModel

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def table(self, subject: Subject) -> pd.DataFrame:
        """The answer in numbers; the same subject gives the same table."""

    @abstractmethod
    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """The answer as a figure, from the table alone.

        Args:
            table: what `table` gave, read again from its file.
            figure: empty; its size may be changed.
        """
