"""`Setting`: an MDP, a model of it, and the constants that the statements assume."""

from dataclasses import dataclass

import numpy as np

from mopo_pl.theory.distances import Distance, model_distances
from mopo_pl.theory.mdp import Array, FiniteMDP
from mopo_pl.theory.policies import deterministic_policies
from mopo_pl.theory.returns import values


@dataclass(frozen=True, eq=False)
class Setting:
    """M and M̂, a distance between their next states, and the constant c and penalty u of the penalised model."""

    mdp: FiniteMDP
    """True MDP, M."""
    model: FiniteMDP
    """Model of the MDP, M̂."""
    distance: Distance
    """Distance of distributions of next states, d_F."""
    c: float
    """Constant c; the statements are guaranteed if it is valid for every policy."""
    u: Array
    """Penalty u(s, a) [S, A]; the statements are guaranteed if it is admissible."""

    @classmethod
    def tightest(cls, mdp: FiniteMDP, model: FiniteMDP, distance: Distance) -> "Setting":
        """Return the setting with the least admissible u, which is d_F itself, and the least valid c.

        Raises ValueError if there are too many policies.
        """
        u = model_distances(mdp.transitions, model.transitions, distance)
        return cls(mdp, model, distance, least_constant(mdp, distance), u)

    @property
    def coef(self) -> float:
        """Coefficient of the penalty, λ = γc."""
        return self.mdp.discount * self.c

    @property
    def penalised(self) -> FiniteMDP:
        """Penalised model, M̃."""
        return self.model.penalised(self.u, self.coef)


def constant_from_rewards(mdp: FiniteMDP, distance: Distance) -> float:
    """Return c from the rewards alone: (max r - min r)/(1 - γ) for total variation, r_max/(1 - γ) if r ∈ [0, r_max].

    Every V^π is an average of rewards times 1/(1 - γ), hence its span is at most that. For 1-Wasserstein it is divided
    by the smallest distance of two states.
    """
    return distance.constant_of_span(float(np.ptp(mdp.rewards)) / (1 - mdp.discount))


def least_constant(mdp: FiniteMDP, distance: Distance) -> float:
    """Return the least c valid for every stationary policy, by enumerating the deterministic ones.

    Raises ValueError if there are too many. The deterministic policies are enough, although V^π of a stochastic policy is not a
    fixed mixture of theirs. Let only π(·|s₀) vary. Then I - γP^π changes in one row, and by Cramer's rule V^π(s) - V^π(s') is a
    ratio of two functions affine in π(·|s₀), with a positive denominator (a determinant). Such a ratio is largest at a vertex of
    the simplex, where π is deterministic in s₀. Applied to one state after another, this gives a deterministic policy with at
    least the difference of the initial one. The constants of `distances` are the largest of such differences, each divided by a
    length that does not depend on π.
    """
    return float(distance.constant(values(mdp, deterministic_policies(mdp.states, mdp.actions))).max())
