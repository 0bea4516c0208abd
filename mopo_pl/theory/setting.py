"""`Setting`: what the statements presuppose, together."""

from dataclasses import dataclass

from mopo_pl.theory.constants import least_constant
from mopo_pl.theory.distances import Distance, model_distances
from mopo_pl.theory.mdp import Array, FiniteMDP


@dataclass(frozen=True, eq=False)
class Setting:
    """M and M̂, a distance of their next states, and the c and u that the penalty is made of."""

    mdp: FiniteMDP
    """M."""
    model: FiniteMDP
    """M̂."""
    distance: Distance
    """d_F."""
    c: float
    """Valid for every policy, or the statements need not hold."""
    u: Array
    """u(s, a) [S, A], admissible, or the statements need not hold."""

    @classmethod
    def tightest(cls, mdp: FiniteMDP, model: FiniteMDP, distance: Distance) -> "Setting":
        """The least u that is admissible, d_F itself, and the least c that is valid (ValueError if too many policies)."""
        u = model_distances(mdp.transitions, model.transitions, distance)
        return cls(mdp, model, distance, least_constant(mdp, distance), u)

    @property
    def coef(self) -> float:
        """λ = γc."""
        return self.mdp.discount * self.c

    @property
    def penalised(self) -> FiniteMDP:
        """M̃."""
        return self.model.penalised(self.u, self.coef)
