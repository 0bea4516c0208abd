"""Distances d_F between distributions of next states, in closed form on finite spaces.

d_F(p, q) = sup_{f ∈ F} |E_p[f] - E_q[f]| is the integral probability metric of a class F of functions. If a value
function lies in c·F, its expectations under p and q differ by at most c·d_F(p, q).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from mopo_pl.theory.mdp import Array, check_distributions, checked


class Distance(Protocol):
    """A distance d_F with the constants c of its class F."""

    @property
    def name(self) -> str:
        """Name in the report."""
        ...

    def between(self, p: Array, q: Array) -> Array:
        """Return d_F(p, q) [...] of distributions [..., S]."""
        ...

    def constant(self, functions: Array) -> Array:
        """Return the least c [...] with V ∈ c·F, for V [..., S]: |E_p[V] - E_q[V]| <= c·d_F(p, q) for all p and q."""
        ...

    def constant_of_span(self, span: float) -> float:
        """Return the least c with V ∈ c·F for *every* V with max V - min V <= `span`."""
        ...


@dataclass(frozen=True)
class TotalVariation:
    """Total variation, with F = {f: max f - min f <= 1} and d_F = Σ_s max(p(s) - q(s), 0), half the L1 distance.

    It is 1 between distributions with disjoint supports. It is also the 1-Wasserstein distance if any two states are at distance
    1. The paper takes F = {f: max |f| <= 1}, whose d_F is twice this; its c, r_max/(1 - γ) for |r| <= r_max, is then half of the
    span used here.

    >>> float(TotalVariation().between(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.5, 0.25])))
    0.25
    """

    name: str = "total variation"

    def between(self, p: Array, q: Array) -> Array:
        """Return d_F(p, q) [...], the sum of the positive parts of p - q."""
        return np.maximum(p - q, 0.0).sum(-1)

    def constant(self, functions: Array) -> Array:
        """Return max V - min V [...], which is attained by distributions on the two extreme states."""
        return functions.max(-1) - functions.min(-1)

    def constant_of_span(self, span: float) -> float:
        """Return c = span."""
        return span


@dataclass(frozen=True, eq=False)
class LineWasserstein:
    """1-Wasserstein distance with state s at position x_s on a line, with F = {f: |f(s) - f(s')| <= |x_s - x_s'|}.

    On a line W1 = ∫ |CDF_p - CDF_q| dx in closed form; a general metric would need a linear programme. Raises
    ValueError unless the positions are finite and distinct.

    >>> line = LineWasserstein(np.array([0.0, 1.0, 3.0]))
    >>> float(line.between(np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])))
    3.0
    """

    positions: Array
    """Position of each state, x [S]."""
    name: str = "1-Wasserstein on a line"

    def __post_init__(self) -> None:
        positions = checked("positions", self.positions, (np.size(self.positions),))
        if len(np.unique(positions)) < len(positions):
            raise ValueError("positions must differ: two states at one position have distance 0")
        object.__setattr__(self, "positions", positions)

    def between(self, p: Array, q: Array) -> Array:
        """Return d_F(p, q) [...], the area between the two cumulative distribution functions."""
        order, gaps = self._sorted(p.shape[-1])
        return (np.abs(np.cumsum((p - q)[..., order], -1)[..., :-1]) * gaps).sum(-1)

    def constant(self, functions: Array) -> Array:
        """Return c [...], the Lipschitz constant of V, which on a line is the largest slope between neighbours."""
        order, gaps = self._sorted(functions.shape[-1])
        if not len(gaps):
            return np.zeros(functions.shape[:-1])
        return (np.abs(np.diff(functions[..., order], axis=-1)) / gaps).max(-1)

    def constant_of_span(self, span: float) -> float:
        """Return c = span divided by the smallest gap between positions."""
        _, gaps = self._sorted(len(self.positions))
        return span / float(gaps.min()) if len(gaps) else 0.0

    def _sorted(self, states: int) -> tuple[np.ndarray, Array]:
        """Return the states from left to right [S] and the gaps between neighbours [S - 1].

        Raise ValueError for another S.
        """
        if states != len(self.positions):
            raise ValueError(f"there are {len(self.positions)} positions on the line for {states} states")
        order = np.argsort(self.positions)
        return order, np.diff(self.positions[order])


def model_distances(transitions: ArrayLike, learned: ArrayLike, distance: Distance) -> Array:
    """Return d_F(T̂(s, a), T(s, a)) [S, A] for T and T̂ [S, A, S].

    Raises ValueError unless both hold distributions and have the same shape.
    """
    shape = np.shape(transitions)
    tables = [checked(name, table, shape) for name, table in (("transitions", transitions), ("learned", learned))]
    for name, table in zip(("transitions", "learned"), tables, strict=True):
        check_distributions(name, table)
    return distance.between(tables[1], tables[0])
