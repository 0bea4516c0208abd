"""Plots of the theorem's bound against λ, for a chain where leaving the dataset pays and one where it does not."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mopo_pl.theory.distances import TotalVariation
from mopo_pl.theory.examples import Example, chain_where_leaving_does_not, chain_where_leaving_pays
from mopo_pl.theory.mdp import Array
from mopo_pl.theory.policies import maximiser
from mopo_pl.theory.returns import expected_return
from mopo_pl.theory.setting import Setting
from mopo_pl.theory.supremum import best_found

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Curves:
    """Returns and bounds as functions of λ for one example, with u = total variation, the least admissible penalty."""

    coefs: Array
    """Values of λ [n]."""
    admissible: float
    """γc, the smallest λ for which the theorem is guaranteed."""
    true: Array
    """η_M(π̂_λ) [n], the true return of the best policy of M̃."""
    penalised: Array
    """η_M̃(π̂_λ) [n], its return in the penalised model."""
    bound: Array
    """Bound of the theorem, sup_π {η_M(π) - 2λε_u(π)} [n]."""
    behaviour: float
    """Return of the behaviour policy, η_M(π^B)."""
    optimal: float
    """Return of the optimal policy, max_π η_M(π)."""


def curves(example: Example, *, farthest: float, points: int) -> Curves:
    """Compute the curves at `points` equally spaced values of λ from 0 to `farthest`·γc."""
    mdp, model = example.mdp, example.model
    setting = Setting.tightest(mdp, model, TotalVariation())
    u, coefs = setting.u, np.linspace(0.0, farthest * setting.coef, points)
    best = np.stack([maximiser(model.penalised(u, coef)) for coef in coefs])
    penalised = [expected_return(model.penalised(u, coef), policy) for coef, policy in zip(coefs, best, strict=True)]
    return Curves(
        coefs=coefs,
        admissible=setting.coef,
        true=expected_return(mdp, best),
        penalised=np.array(penalised),
        bound=np.array([best_found(mdp, model, u, coef)[1] for coef in coefs]),
        behaviour=float(expected_return(mdp, example.behaviour)),
        optimal=float(expected_return(mdp, maximiser(mdp))),
    )


FIGURES: dict[str, tuple[Callable[[], Example], float, str]] = {
    "leaving_pays.svg": (chain_where_leaving_pays, 4.0, "Leaving the data pays"),
    "leaving_does_not_pay.svg": (chain_where_leaving_does_not, 1.6, "Leaving the data does not pay"),
}
"""File name to example, largest λ in units of γc, and title."""
POINTS = 41
"""Number of values of λ per curve; γc is one of the values in both figures."""


def draw(folder: Path) -> list[Path]:
    """Write both figures into `folder`, byte-identical at each call, and return their paths.

    Raises OSError if the folder cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    for file, (example, farthest, title) in FIGURES.items():
        # Without a fixed salt, the names of clip paths are random.
        with rc_context({"svg.hashsalt": "mopo_pl", "font.size": 9.0}):
            figure = Figure(figsize=(6.4, 5.0), layout="constrained")
            _plot(figure.subplots(), curves(example(), farthest=farthest, points=POINTS), title)
            figure.savefig(folder / file, metadata={"Date": None})
    return [folder / file for file in FIGURES]


def _plot(axes: "Axes", drawn: Curves, title: str) -> None:
    """Plot one figure; the SVG element of each curve has the curve's name as its id."""
    begin = int(np.searchsorted(drawn.coefs, drawn.admissible * (1 - 1e-9)))
    label = r"$\eta_M(\hat\pi_\lambda)$, true return"
    axes.plot(drawn.coefs, drawn.true, "C0", gid="true", lw=2, drawstyle="steps-mid", label=label)
    label = r"$\eta_{\tilde M}(\hat\pi_\lambda)$, return in the penalised model"
    axes.plot(drawn.coefs, drawn.penalised, "C1", gid="penalised", label=label)
    label = r"$\sup_\pi\{\eta_M(\pi) - 2\lambda\,\epsilon_u(\pi)\}$, where the theorem holds"
    axes.plot(drawn.coefs[begin:], drawn.bound[begin:], "C2", gid="bound", label=label)
    axes.plot(drawn.coefs[: begin + 1], drawn.bound[: begin + 1], "C2:", gid="unclaimed")
    axes.axhline(drawn.optimal, color="0.5", ls="--", lw=1, gid="optimal", label=r"the best policy of $M$")
    axes.axhline(drawn.behaviour, color="0.5", ls=":", lw=1, gid="behaviour", label=r"the log's policy, $\pi^B$")
    axes.axvline(drawn.admissible, color="k", lw=0.8, gid="admissible")
    axes.annotate(r" $\lambda=\gamma c$", (drawn.admissible, 0.95), xycoords=("data", "axes fraction"))
    axes.set(xlabel=r"penalty coefficient $\lambda$", ylabel="discounted return", title=title)
    axes.set_xlim(0, drawn.coefs[-1])
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False, ncols=2)
