"""Random MDPs with wrong models, drawn by hypothesis through a seed."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.random import Generator

from mopo_pl.theory.distances import LineWasserstein, TotalVariation, model_distances
from mopo_pl.theory.examples import draw_mdp, draw_model, draw_policies, draw_positions
from mopo_pl.theory.mdp import Array
from mopo_pl.theory.policies import maximiser
from mopo_pl.theory.setting import Setting, constant_from_rewards, least_constant

DISCOUNTS = st.floats(0.0, 0.99)


@dataclass(frozen=True, eq=False)
class Problem(Setting):
    """A setting in which every statement must hold."""

    rng: Generator

    def policies(self) -> Array:
        """Random ones, the best of M, of M̂ and of M̃, and the uniform one [7, S, A]."""
        best = [maximiser(m) for m in (self.mdp, self.model, self.penalised)]
        uniform = np.full(self.mdp.rewards.shape, 1 / self.mdp.actions)
        return np.stack([*draw_policies(self.rng, self.mdp, 3), *best, uniform])


@st.composite
def problems(
    draw: st.DrawFn, states: int = 4, actions: int = 3, discounts: st.SearchStrategy[float] = DISCOUNTS
) -> Problem:
    """At most so many states and actions; γ between 0 and 0.99, both ends included."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.integers(1, states)), draw(st.integers(1, actions))
    mdp = draw_mdp(rng, *sizes, draw(discounts))
    model = draw_model(rng, mdp)
    line = LineWasserstein(draw_positions(rng, mdp.states))
    distance = draw(st.sampled_from([TotalVariation(), line]))
    c = draw(st.sampled_from([least_constant, constant_from_rewards]))(mdp, distance)
    error = model_distances(mdp.transitions, model.transitions, distance)
    u = error + draw(st.sampled_from([0.0, 1.0])) * rng.exponential(size=error.shape)
    return Problem(mdp, model, distance, c, u, rng)
