"""Where a search ends that begins beside the truth: moved within the null space of A, Sec. 5 of Asim et al. 2020."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from pydantic import Field

from flowprior.errors import FlowpriorError
from flowprior.evaluation.metrics import psnr
from flowprior.models.capabilities import Invertible
from flowprior.registry import SettingsModel
from flowprior.solvers.base import solve
from flowprior.studies.base import Study, Subject
from flowprior.studies.problems import drawn, problem_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class NullSpaceStart(Study):
    """PSNR of GlowIP from x + d, A d = 0, ||d|| given, against the weight of ||z||.

    The start fits the measurement as well as the truth does, so that the data term alone keeps the search near it;
    what brings it back is the penalty. Asim et al. 2020 move the *true* image by 5, which no method could know.
    """

    name = "null_space_start"
    caption = "PSNR from a start that fits the measurement and is not the image, against the weight of the penalty."
    needs = Invertible
    reads_tasks = True

    class Settings(SettingsModel):
        """Settings of `null_space_start`."""

        task: str = Field(description="task of the experiment whose operator and noise it takes")
        norms: list[float] = Field([5.0], min_length=1, description="lengths of the perturbation, images in [0, 1]")
        gammas: list[float] = Field([0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 1.0], min_length=1, description="weights")
        images: int = Field(12, ge=1, description="the first of the test images")
        solver: dict[str, str | float | int] = Field(
            default_factory=dict, description="settings of GlowIP, but for gamma and the start"
        )

    def table(self, subject: Subject) -> pd.DataFrame:
        """Columns: norm, gamma, image, PSNR in dB at the start and at the end."""
        asked = self.settings
        operator, y, truth, names = problem_of(subject, asked.task, asked.images)
        away = drawn(subject, names, tuple(truth.shape[1:]), "null space").to(truth)
        # Twice: A_dagger of large random matrices is exact to rounding only.
        for _ in range(2):
            away = away - operator.A_dagger(operator.A(away))
        length = away.flatten(1).norm(dim=1)
        if bool((length < 1e-3).any()):
            raise FlowpriorError(f"the operator of task '{asked.task}' has no null space; name one that has")
        away = away / length.reshape(-1, 1, 1, 1)
        memory: dict[object, object] = {}
        rows: list[tuple[float, float, str, float, float]] = []
        settings = {"penalty": "norm", "value_range": 1.0, **asked.solver}
        for norm in asked.norms:
            start = (truth + norm * away).clamp(0, 1)
            begun = psnr(start, truth, 1.0).tolist()
            for gamma in asked.gammas:
                found = solve(
                    "glowip",
                    operator,
                    y,
                    subject.model,
                    keys=names,
                    seed=subject.seed,
                    memory=memory,
                    start_images=start,
                    gamma=gamma,
                    **settings,
                )
                ended = psnr(found.images, truth, 1.0).tolist()
                rows += [(norm, gamma, *line) for line in zip(names, begun, ended, strict=True)]
        return pd.DataFrame(rows, columns=["norm", "gamma", "image", "start", "end"])

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """The mean of each length against the weight, its start as a level line."""
        axis = figure.subplots()
        for norm, own in table.groupby("norm", sort=False):
            means = own.groupby("gamma")["end"].mean()
            (line,) = axis.plot(means.index, means, marker="o", label=f"moved by {norm:g}")
            axis.axhline(own["start"].mean(), color=line.get_color(), linestyle=(0, (3, 2)), linewidth=1)
        positive = table["gamma"][table["gamma"] > 0]
        if len(positive):
            axis.set_xscale("symlog", linthresh=float(positive.min()))
        axis.set_xlabel("gamma (dashed: the start itself)")
        axis.set_ylabel("PSNR (dB)")
        axis.legend()
