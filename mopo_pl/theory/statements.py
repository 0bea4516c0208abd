"""The statements of Yu et al. 2020, section 4, each a function that returns both sides.

Their order is that of a write-up of the proof, "the post", whose numbers (6) and (7) are used; the paper has Lemma 4.1,
Assumptions 4.2 (c) and 4.3 (admissible u) and Theorem 4.4.

M is the true MDP, `mdp`; M̂ the learned one, `model`, with dynamics T̂ and the same rewards; M̃ is M̂ with rewards r̃ =
r - λu. Ē is the sum over the unnormalised occupancy ρ^π_T̂ of a policy *in the model*. The statements hold if u is
admissible and λ = γc with a c that is valid for every policy. The functions do not check this, so that a reader can see
which statements fail otherwise. Each raises ValueError if the states, actions, start or discount of `model` are not
those of `mdp`.

Two misprints of the post are corrected: its corollary has <= once where its derivation has >=, and the theorem is about
the maximiser of η_M̃ where one line prints η_M̂.

>>> from mopo_pl.theory.distances import TotalVariation
>>> from mopo_pl.theory.examples import fork
>>> example = fork()
>>> setting = Setting.tightest(example.mdp, example.model, TotalVariation())
>>> sides = inequality_7(setting.mdp, setting.model, setting.u, setting.coef, example.behaviour)
>>> sides.formula, sides.holds()
('η_M(π) ≥ η_M̃(π)', True)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mopo_pl.theory.distances import Distance, model_distances
from mopo_pl.theory.mdp import Array, FiniteMDP, check_coef, check_model
from mopo_pl.theory.policies import maximiser
from mopo_pl.theory.returns import expected_return, occupancy_sum, values
from mopo_pl.theory.setting import Setting
from mopo_pl.theory.supremum import pessimistic_return

# Terms of the statements


def value_gap(mdp: FiniteMDP, model: FiniteMDP, policy: ArrayLike) -> Array:
    """Return G^π_M̂(s, a) = E_{s'~T̂(s,a)}[V^π_M(s')] - E_{s'~T(s,a)}[V^π_M(s')] [S, A], the model's overestimate of (s, a)."""
    check_model(mdp, model, same_rewards=False)
    return (model.transitions - mdp.transitions) @ values(mdp, policy)


def epsilon_u(model: FiniteMDP, u: ArrayLike, policy: ArrayLike) -> float:
    """Return ε_u(π) = Ē[u(s, a)], the accumulated model error of a policy in the model, for u [S, A]."""
    return float(occupancy_sum(model, policy, model.checked_penalty(u)))


def required_penalty(mdp: FiniteMDP, model: FiniteMDP, distance: Distance, c: float) -> Array:
    """Return the least λu(s, a) [S, A] that the proof requires: γc·d_F(T̂, T) + |r̂ - r|.

    With known rewards, as in the post, the second term is 0 and this is λ = γc times the least admissible u. A learned
    reward adds only its error: with r̂ in M̂ and M̃, all statements but Lemma 4.1 hold unchanged.
    """
    check_model(mdp, model, same_rewards=False)
    gap = mdp.discount * check_coef(c) * model_distances(mdp.transitions, model.transitions, distance)
    return gap + np.abs(model.rewards - mdp.rewards)


# The statements


TOLERANCE = 1e-9
"""Relative rounding error that is allowed in float64 solutions for γ up to 0.99."""


@dataclass(frozen=True)
class Equality:
    """A statement left = right."""

    name: str
    """Short name."""
    formula: str
    """The statement in symbols."""
    left: float
    right: float
    scale: float = 1.0
    """Unit of the residual: the largest number in the calculation, at least 1."""

    @property
    def residual(self) -> float:
        """|left - right|/scale."""
        return abs(self.left - self.right) / self.scale

    def holds(self, tolerance: float = TOLERANCE) -> bool:
        """Return whether the sides agree up to rounding."""
        return self.residual <= tolerance


@dataclass(frozen=True)
class Inequality:
    """A statement left >= right."""

    name: str
    """Short name."""
    formula: str
    """The statement in symbols."""
    left: float
    right: float

    @property
    def slack(self) -> float:
        """left - right."""
        return self.left - self.right

    @property
    def scaled_slack(self) -> float:
        """The slack divided by the larger side, or by 1 if that is less."""
        return self.slack / max(1.0, abs(self.left), abs(self.right))

    def holds(self, tolerance: float = TOLERANCE) -> bool:
        """Return whether left >= right up to rounding."""
        return self.scaled_slack >= -tolerance


def about_policy(setting: Setting, policy: ArrayLike) -> list[Equality | Inequality]:
    """Return all statements about a single policy, in their order."""
    mdp, model, u, coef = setting.mdp, setting.model, setting.u, setting.coef
    return [
        lemma_4_1(mdp, model, policy),
        corollary_identity(mdp, model, policy),
        corollary(mdp, model, policy),
        inequality_6(mdp, model, policy, setting.distance, setting.c),
        penalised_return(model, u, coef, policy),
        inequality_7(mdp, model, u, coef, policy),
        two_sided_bound(mdp, model, u, coef, policy),
    ]


def lemma_4_1(mdp: FiniteMDP, model: FiniteMDP, policy: ArrayLike) -> Equality:
    """Return Lemma 4.1 (telescoping): η_M̂(π) - η_M(π) = γ Ē[G(s, a)]. Raises ValueError if the model has other rewards.

    >>> from mopo_pl.theory.examples import fork
    >>> example = fork()
    >>> sides = lemma_4_1(example.mdp, example.model, example.behaviour)
    >>> sides.left, sides.right, sides.holds()
    (-0.25, -0.25, True)
    """
    check_model(mdp, model, same_rewards=True)
    formula = "η_M̂(π) - η_M(π) = γ Ē[G]"
    return _telescoped(mdp, model, policy, mdp.discount * value_gap(mdp, model, policy), "Lemma 4.1", formula)


def lemma_4_1_learned_reward(mdp: FiniteMDP, model: FiniteMDP, policy: ArrayLike) -> Equality:
    """Return Lemma 4.1 for a model with a learned reward r̂: η_M̂(π) - η_M(π) = Ē[(r̂ - r) + γG].

    This statement is not in the post, but MOPO's code learns r̂.
    """
    difference = model.rewards - mdp.rewards + mdp.discount * value_gap(mdp, model, policy)
    return _telescoped(mdp, model, policy, difference, "Lemma 4.1, r̂", "η_M̂(π) - η_M(π) = Ē[(r̂ - r) + γG]")


def _telescoped(
    mdp: FiniteMDP, model: FiniteMDP, policy: ArrayLike, difference: Array, name: str, formula: str
) -> Equality:
    """Return the equality of η_M̂(π) - η_M(π) and Ē[difference], with the scale of the numbers that are subtracted."""
    imagined, true = float(expected_return(model, policy)), float(expected_return(mdp, policy))
    summed = float(occupancy_sum(model, policy, difference))
    return Equality(name, formula, imagined - true, summed, max(1.0, abs(imagined), abs(true)))


def corollary_identity(mdp: FiniteMDP, model: FiniteMDP, policy: ArrayLike) -> Equality:
    """Return the first half of the corollary, η_M(π) = Ē[r - γG]: the true return from states of the model and the gap G."""
    true = float(expected_return(mdp, policy))
    corrected = mdp.rewards - mdp.discount * value_gap(mdp, model, policy)
    summed = float(occupancy_sum(model, policy, corrected))
    scale = max(1.0, abs(true), abs(float(expected_return(model, policy))))
    return Equality("Corollary, =", "η_M(π) = Ē[r - γG]", true, summed, scale)


def corollary(mdp: FiniteMDP, model: FiniteMDP, policy: ArrayLike) -> Inequality:
    """Return the corollary: η_M(π) >= Ē[r - γ|G|]."""
    lowered = mdp.rewards - mdp.discount * np.abs(value_gap(mdp, model, policy))
    true, summed = float(expected_return(mdp, policy)), float(occupancy_sum(model, policy, lowered))
    return Inequality("Corollary, ≥", "η_M(π) ≥ Ē[r - γ|G|]", true, summed)


def inequality_6(mdp: FiniteMDP, model: FiniteMDP, policy: ArrayLike, distance: Distance, c: float) -> Inequality:
    """Return (6): c·d_F(T̂(s, a), T(s, a)) >= |G(s, a)| for every (s, a).

    The sides are those of the pair (s, a) with the least slack.
    """
    bound = check_coef(c) * model_distances(mdp.transitions, model.transitions, distance)
    return _tightest("(6)", "c·d_F(T̂, T) ≥ |G| at every (s, a)", bound, np.abs(value_gap(mdp, model, policy)))


def admissible(mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, distance: Distance) -> Inequality:
    """Return the definition of an admissible u: u(s, a) >= d_F(T̂(s, a), T(s, a)) for every (s, a).

    The sides are those of the pair (s, a) with the least slack.
    """
    error = model_distances(mdp.transitions, model.transitions, distance)
    return _tightest("Admissible u", "u ≥ d_F(T̂, T) at every (s, a)", model.checked_penalty(u), error)


def _tightest(name: str, formula: str, larger: Array, smaller: Array) -> Inequality:
    """Return the inequality with the sides at the pair (s, a) with the least slack."""
    pair = np.unravel_index(np.argmin(larger - smaller), larger.shape)
    return Inequality(name, formula, float(larger[pair]), float(smaller[pair]))


def penalised_return(model: FiniteMDP, u: ArrayLike, coef: float, policy: ArrayLike) -> Equality:
    """Return the last step of (7): Ē[r - λu] = η_M̃(π).

    The left side is computed from the occupancy, the right side from the values in M̃.
    """
    penalised = model.penalised(u, coef)
    summed = float(occupancy_sum(model, policy, penalised.rewards))
    solved = float(expected_return(penalised, policy))
    return Equality("(7), =", "Ē[r - λu] = η_M̃(π)", summed, solved, max(1.0, abs(summed), abs(solved)))


def inequality_7(mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float, policy: ArrayLike) -> Inequality:
    """Return (7), η_M(π) >= Ē[r - λu] = η_M̃(π): the return in the penalised model is a lower bound of the true return."""
    check_model(mdp, model, same_rewards=False)
    pessimistic = float(expected_return(model.penalised(u, coef), policy))
    return Inequality("(7), ≥", "η_M(π) ≥ η_M̃(π)", float(expected_return(mdp, policy)), pessimistic)


def two_sided_bound(mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float, policy: ArrayLike) -> Inequality:
    """Return λε_u(π) >= |η_M̂(π) - η_M(π)|: the model's error of a policy's return is at most λ times its accumulated error."""
    check_model(mdp, model, same_rewards=False)
    error = abs(float(expected_return(model, policy)) - float(expected_return(mdp, policy)))
    return Inequality(
        "Two-sided", "λ·ε_u(π) ≥ |η_M̂(π) - η_M(π)|", check_coef(coef) * epsilon_u(model, u, policy), error
    )


def theorem(mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float, policies: ArrayLike) -> Inequality:
    """Return the theorem: π̂ = argmax η_M̃ has η_M(π̂) >= sup_π {η_M(π) - 2λε_u(π)}, with the supremum over `policies` [n, S, A].

    >>> from mopo_pl.theory.distances import TotalVariation
    >>> from mopo_pl.theory.examples import fork
    >>> from mopo_pl.theory.policies import deterministic_policies
    >>> example = fork()
    >>> setting = Setting.tightest(example.mdp, example.model, TotalVariation())
    >>> sides = theorem(setting.mdp, setting.model, setting.u, setting.coef, deterministic_policies(3, 2))
    >>> sides.left, sides.right
    (0.25, 0.25)
    """
    check_model(mdp, model, same_rewards=False)
    true = float(expected_return(mdp, maximiser(model.penalised(u, coef))))
    supremum = float(np.max(pessimistic_return(mdp, model, u, coef, policies)))
    return Inequality("Theorem", "η_M(π̂) ≥ sup_π {η_M(π) - 2λ·ε_u(π)}", true, supremum)


def behaviour_consequence(
    mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float, behaviour: ArrayLike
) -> Inequality:
    """Return a consequence of the theorem: η_M(π̂) >= η_M(π^B) - 2λε_u(π^B), where ε_u of the behaviour policy is small."""
    sides = theorem(mdp, model, u, coef, np.asarray(behaviour)[np.newaxis])
    return Inequality("Behaviour", "η_M(π̂) ≥ η_M(π^B) - 2λ·ε_u(π^B)", sides.left, sides.right)


def gain_and_risk(
    mdp: FiniteMDP, model: FiniteMDP, u: ArrayLike, coef: float, policies: ArrayLike, delta: float
) -> Inequality:
    """Return the second half of the theorem: η_M(π̂) >= η_M(π^δ) - 2λδ.

    π^δ has the highest return of all `policies` [n, S, A] with ε_u(π) <= δ. The inequality relates the guaranteed return to the
    accepted risk δ. Raises ValueError if no policy has ε_u <= `delta`.
    """
    check_model(mdp, model, same_rewards=False)
    risks = occupancy_sum(model, policies, model.checked_penalty(u))
    allowed = risks <= delta
    if not allowed.any():
        raise ValueError(f"no policy has ε_u <= {delta}: the least is {risks.min()}")
    gain = float(expected_return(mdp, policies)[allowed].max())
    true = float(expected_return(mdp, maximiser(model.penalised(u, coef))))
    return Inequality("Gain, risk", "η_M(π̂) ≥ η_M(π^δ) - 2λδ", true, gain - 2 * check_coef(coef) * delta)
