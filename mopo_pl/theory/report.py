"""`python -m mopo_pl theory`: the post with numbers in it, for a random MDP and a wrong model of it."""

from dataclasses import dataclass

import numpy as np

from mopo_pl.theory import statements
from mopo_pl.theory.constants import least_constant, post_constant
from mopo_pl.theory.distances import TotalVariation, model_distances
from mopo_pl.theory.draws import draw_logged
from mopo_pl.theory.mdp import Array, FiniteMDP
from mopo_pl.theory.policies import check_enumerable, maximiser
from mopo_pl.theory.returns import expected_return
from mopo_pl.theory.sides import Equality, Inequality
from mopo_pl.theory.supremum import best_found


@dataclass(frozen=True, eq=False)
class Case:
    """An MDP, a model of it, and everything the statements take: u is the least admissible one, λ = γc the least valid."""

    mdp: FiniteMDP
    model: FiniteMDP
    behaviour: Array
    """π^B [S, A]."""
    u: Array
    """[S, A]."""
    c: float

    @property
    def coef(self) -> float:
        """λ = γc."""
        return self.mdp.discount * self.c


DISTANCE = TotalVariation()


def draw_case(seed: int, states: int, actions: int, discount: float) -> Case:
    """A random MDP, and a model that is the more wrong the rarer the behaviour policy takes the action."""
    mdp, model, behaviour = draw_logged(np.random.default_rng(seed), states, actions, discount)
    u = model_distances(mdp.transitions, model.transitions, DISTANCE)
    return Case(mdp, model, behaviour, u, least_constant(mdp, DISTANCE))


def report(seed: int, states: int, actions: int, discount: float) -> str:
    """The statements in the post's order with both sides and slack, and the theorem's winner.

    Raises ValueError where the MDP has too many policies to look at all.
    """
    check_enumerable(states, actions)
    case = draw_case(seed, states, actions, discount)
    winner = maximiser(case.model.penalised(case.u, case.coef))
    candidate, supremum, deterministic = best_found(case.mdp, case.model, case.u, case.coef)
    lines = [
        f"M: {states} states, {actions} actions, γ {discount:g}, rewards in [0, 1], drawn with seed {seed}.",
        "M̂: the same with dynamics T̂ in place of T, the more wrong the rarer the behaviour policy π^B takes the action.",
        "",
        f"d_F     {DISTANCE.name} of T̂(s, a) and T(s, a): mean {case.u.mean():.4f}, largest {case.u.max():.4f}",
        f"c       {case.c:.4f}, valid for every policy (from the rewards alone: {post_constant(case.mdp, DISTANCE):.4f})",
        f"λ = γc  {case.coef:.4f}",
        "u       = d_F, the least admissible; M̃: M̂ with rewards r - λu",
    ]
    lines += ["", *_returns(case, winner, candidate)]
    for name, policy in (("π^B, the policy of the log", case.behaviour), ("π̂, the best policy of M̃", winner)):
        lines += ["", f"For π = {name}:", *(_row(sides) for sides in _of_a_policy(case, policy))]
    compared = np.stack([candidate, case.behaviour])
    lines += ["", "For the best policy of M̃:"]
    lines.append(_row(statements.theorem(case.mdp, case.model, case.u, case.coef, compared)))
    lines.append(_row(statements.behaviour_consequence(case.mdp, case.model, case.u, case.coef, case.behaviour)))
    return "\n".join([*lines, "", *_verdict(case, winner, candidate, supremum - deterministic)])


def _returns(case: Case, winner: Array, candidate: Array) -> list[str]:
    """A table of what each policy earns where."""
    named = {
        "π^B  the log's": case.behaviour,
        "π̂    best in M̃": winner,
        "     best in M̂ (λ = 0)": maximiser(case.model),
        "     best in M": maximiser(case.mdp),
        "     best in the theorem's sup": candidate,
    }
    penalised = case.model.penalised(case.u, case.coef)
    lines = [f"{'policy':<34}{'η_M':>10}{'η_M̂':>11}{'η_M̃':>11}{'ε_u':>10}"]
    for name, policy in named.items():
        earned = [float(expected_return(mdp, policy)) for mdp in (case.mdp, case.model, penalised)]
        width = 34 + name.count("\u0302") + name.count("\u0303")  # combining marks take no column
        cells = [*earned, statements.epsilon_u(case.model, case.u, policy)]
        lines.append(f"{name:<{width}}" + "".join(f"{_rounded(value):>10}" for value in cells))
    return lines


def _of_a_policy(case: Case, policy: Array) -> list[Equality | Inequality]:
    """What the post says of any one policy, in its order."""
    mdp, model, u, coef = case.mdp, case.model, case.u, case.coef
    return [
        statements.lemma_4_1(mdp, model, policy),
        statements.corollary_identity(mdp, model, policy),
        statements.corollary(mdp, model, policy),
        statements.inequality_6(mdp, model, policy, DISTANCE, case.c),
        statements.penalised_return(model, u, coef, policy),
        statements.inequality_7(mdp, model, u, coef, policy),
        statements.two_sided_bound(mdp, model, u, coef, policy),
    ]


def _row(sides: Equality | Inequality) -> str:
    """One statement: its name, its claim, both sides, and how far they are apart."""
    width = 44 + sides.claim.count("\u0302") + sides.claim.count("\u0303")
    sign, apart = (
        ("=", f"residual {sides.residual:.0e}")
        if isinstance(sides, Equality)
        else ("≥", f"slack {_rounded(sides.slack)}")
    )
    held = "" if sides.holds() else "  DOES NOT HOLD"
    left, right = _rounded(sides.left), _rounded(sides.right)
    return f"  {sides.name:<14}{sides.claim:<{width}}{left:>9} {sign} {right:>9}   {apart}{held}"


def _verdict(case: Case, winner: Array, candidate: Array, gained: float) -> list[str]:
    """The theorem's winner, in words."""
    actions = " ".join(str(action) for action in winner.argmax(-1))
    true, logged, best = (
        float(expected_return(case.mdp, policy)) for policy in (winner, case.behaviour, maximiser(case.mdp))
    )
    stochastic = (
        f"The supremum's best policy is stochastic: {gained:.4f} above every deterministic one."
        if gained > 1e-6
        else "No stochastic policy was found to be better in the supremum than the best deterministic one."
    )
    return [
        f"Winner: π̂, action {actions} in states 0 to {case.mdp.states - 1}.",
        f"It earns {true:.4f} in M: π^B earns {logged:.4f}, the best policy of all {best:.4f}.",
        stochastic,
    ]


def _rounded(value: float) -> str:
    """Four decimals, and no minus before a zero."""
    return f"{round(value, 4) + 0.0:.4f}"
