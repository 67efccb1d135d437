"""The methods of a report as a reader knows them: one name, one colour and one marker everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from flowprior.experiment.params import Experiment
from flowprior.experiment.plan import is_baseline

#: Colours that colour-blind readers tell apart (Okabe and Ito; Tol), fixed for the methods every report has.
_OWN = {
    "map": "#D55E00",
    "chavez": "#0072B2",
    "csgm": "#56B4E9",
    "glowip": "#009E73",
    "linear_mmse": "#AA3377",
    "bm3d": "#555555",
}
_OTHERS = ("#E69F00", "#332288", "#999933", "#8C510A", "#CC79A7", "#44AA99", "#1B1B1B", "#BB5566")
_MARKERS = "osD^vPXd<>ph"


@dataclass(frozen=True)
class Line:
    """A method with one prior.

    Attributes:
        method: its name in the experiment.
        prior: a model's name, or "none".
        solver: the registered solver behind it.
        baseline: whether methods with a learned prior are compared with it.
        label: what the reader sees.
        colour: as "#rrggbb".
        marker: of matplotlib.
    """

    method: str
    prior: str
    solver: str
    baseline: bool
    label: str
    colour: str
    marker: str

    @property
    def key(self) -> tuple[str, str]:
        """(method, prior), as rows name it."""
        return self.method, self.prior

    @property
    def is_flow(self) -> bool:
        """Whether a learned flow is its prior."""
        return not self.baseline


def lines_of(experiment: Experiment) -> tuple[Line, ...]:
    """Every method with each of its priors, in the experiment's order.

    The colour follows from the experiment alone: a method that was skipped changes no other's colour.
    """
    lines: list[Line] = []
    free = list(_OTHERS)
    for method in experiment.methods:
        priors = experiment.priors_of(method)
        for position, prior in enumerate(priors):
            own = _OWN.get(method) if position == 0 else None
            if own is None:
                # After the last free colour they start again; the marker still differs.
                own = free.pop(0)
                free = free or list(_OTHERS)
            label = method if len(priors) == 1 else f"{method} ({prior})"
            marker = _MARKERS[len(lines) % len(_MARKERS)]
            solver = experiment.solver_of(method)
            lines.append(Line(method, prior, solver, is_baseline(experiment, method), label, own, marker))
    return tuple(lines)
