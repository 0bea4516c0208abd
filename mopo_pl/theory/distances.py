"""Distances d_F between distributions of next states that have a closed form on finite spaces.

d_F(p, q) = sup_{f ∈ F} |E_p[f] - E_q[f]|, an integral probability metric; F is what tells them apart. A value function
belongs to c·F for some c, and that c turns a distance of distributions into a difference of values.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from mopo_pl.theory.mdp import Array, check_distributions, checked


class Distance(Protocol):
    """d_F, with what its F says about c."""

    @property
    def name(self) -> str:
        """As the report calls it."""
        ...

    def between(self, p: Array, q: Array) -> Array:
        """d_F(p, q) [...] of distributions [..., S]."""
        ...

    def constant(self, functions: Array) -> Array:
        """The least c [...] with V ∈ c·F, for V [..., S]: |E_p[V] - E_q[V]| <= c·d_F(p, q) for all p and q."""
        ...

    def constant_of_span(self, span: float) -> float:
        """The least c that does so for *every* V with max V - min V <= `span`."""
        ...


@dataclass(frozen=True)
class TotalVariation:
    """F = {f: max f - min f <= 1}: d_F = Σ_s max(p(s) - q(s), 0), half the L1 distance; 1 between disjoint supports.

    It is also the 1-Wasserstein distance where any two states are 1 apart. The paper takes F = {f: max |f| <= 1}, whose d_F
    is twice this; its c, r_max/(1 - γ) for |r| <= r_max, is then half of what the span gives here.
    """

    name: str = "total variation"

    def between(self, p: Array, q: Array) -> Array:
        """Sum of positive parts [...]."""
        return np.maximum(p - q, 0.0).sum(-1)

    def constant(self, functions: Array) -> Array:
        """max V - min V [...]; attained by distributions on the two extreme states."""
        return functions.max(-1) - functions.min(-1)

    def constant_of_span(self, span: float) -> float:
        """The span itself."""
        return span


@dataclass(frozen=True, eq=False)
class LineWasserstein:
    """F = {f: |f(s) - f(s')| <= |x_s - x_s'|}: 1-Wasserstein where state s lies at x_s on a line.

    On a line W1 = ∫ |CDF_p - CDF_q| dx, so that no linear programme is needed; on a general metric one would be.
    Raises ValueError unless the positions are finite and differ.
    """

    positions: Array
    """x [S]."""
    name: str = "1-Wasserstein on a line"

    def __post_init__(self) -> None:
        positions = checked("positions", self.positions, (np.size(self.positions),))
        if len(np.unique(positions)) < len(positions):
            raise ValueError("positions must differ: two states in one place are at distance 0")
        object.__setattr__(self, "positions", positions)

    def between(self, p: Array, q: Array) -> Array:
        """The area between the two distribution functions [...]."""
        order, gaps = self._sorted(p.shape[-1])
        return (np.abs(np.cumsum((p - q)[..., order], -1)[..., :-1]) * gaps).sum(-1)

    def constant(self, functions: Array) -> Array:
        """The Lipschitz constant of V [...]: on a line, the steepest slope between neighbours."""
        order, gaps = self._sorted(functions.shape[-1])
        if not len(gaps):
            return np.zeros(functions.shape[:-1])
        return (np.abs(np.diff(functions[..., order], axis=-1)) / gaps).max(-1)

    def constant_of_span(self, span: float) -> float:
        """The span over the smallest gap."""
        _, gaps = self._sorted(len(self.positions))
        return span / float(gaps.min()) if len(gaps) else 0.0

    def _sorted(self, states: int) -> tuple[np.ndarray, Array]:
        """The states from left to right [S], and the gaps between neighbours [S - 1]; ValueError for another S."""
        if states != len(self.positions):
            raise ValueError(f"there are {len(self.positions)} positions on the line for {states} states")
        order = np.argsort(self.positions)
        return order, np.diff(self.positions[order])


def model_distances(transitions: ArrayLike, learned: ArrayLike, distance: Distance) -> Array:
    """d_F(T̂(s, a), T(s, a)) [S, A] of T, T̂ [S, A, S]; raises ValueError where either holds no distributions of one shape."""
    shape = np.shape(transitions)
    tables = [checked(name, table, shape) for name, table in (("transitions", transitions), ("learned", learned))]
    for name, table in zip(("transitions", "learned"), tables, strict=True):
        check_distributions(name, table)
    return distance.between(tables[1], tables[0])
