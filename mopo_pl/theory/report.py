"""The output of `python -m mopo_pl theory`: the proof evaluated on a random MDP and an inaccurate model of it."""

import unicodedata

import numpy as np

from mopo_pl.theory import statements
from mopo_pl.theory.distances import TotalVariation
from mopo_pl.theory.examples import draw_logged
from mopo_pl.theory.mdp import Array, FiniteMDP
from mopo_pl.theory.policies import maximiser
from mopo_pl.theory.returns import expected_return
from mopo_pl.theory.setting import Setting, constant_from_rewards
from mopo_pl.theory.statements import Equality, Inequality
from mopo_pl.theory.supremum import best_found


def report(seed: int, states: int, actions: int, discount: float) -> str:
    """Return a text with both sides and the slack of every statement, in the order of the proof, and with the selected policy.

    u is the least admissible penalty and λ = γc the least valid coefficient. Raises ValueError if there are too many
    policies to enumerate.
    """
    mdp, model, behaviour = draw_logged(np.random.default_rng(seed), states, actions, discount)
    setting = Setting.tightest(mdp, model, TotalVariation())
    winner = maximiser(setting.penalised)
    candidate, supremum, deterministic = best_found(mdp, model, setting.u, setting.coef)
    policies = {
        "π^B  the log's": behaviour,
        "π̂    best in M̃": winner,
        "     best in M̂ (λ = 0)": maximiser(model),
        "     best in M": maximiser(mdp),
        "     best in the theorem's sup": candidate,
    }
    compared = np.stack([*policies.values()])
    risks = [statements.epsilon_u(model, setting.u, policy) for policy in compared]
    delta = (min(risks) + max(risks)) / 2
    return "\n".join(
        [
            f"M: {states} states, {actions} actions, γ {discount:g}, rewards in [0, 1], drawn with seed {seed}.",
            "M̂: the same with dynamics T̂ in place of T, the more wrong the rarer the log's policy π^B takes the action.",
            "",
            *_penalty(setting),
            "",
            *_returns(setting, policies),
            "",
            "For π = π^B, the policy of the log:",
            *(_row(sides) for sides in statements.about_policy(setting, behaviour)),
            "",
            "For π = π̂, the best policy of M̃:",
            *(_row(sides) for sides in statements.about_policy(setting, winner)),
            "",
            "Of π̂, found in M̃ alone:",
            _row(statements.theorem(mdp, model, setting.u, setting.coef, compared)),
            _row(statements.behaviour_consequence(mdp, model, setting.u, setting.coef, behaviour)),
            _row(statements.gain_and_risk(mdp, model, setting.u, setting.coef, compared, delta)),
            f"  with δ = {delta:.4f}, halfway from the least to the largest ε_u above",
            "",
            *_verdict(mdp, policies, supremum - deterministic),
        ]
    )


def _penalty(setting: Setting) -> list[str]:
    """Return the lines about the parts of λu."""
    u, c = setting.u, setting.c
    return [
        f"d_F     {setting.distance.name} of T̂(s, a) and T(s, a): mean {u.mean():.4f}, largest {u.max():.4f}",
        f"c       {c:.4f}, valid for every policy (from the rewards alone: {constant_from_rewards(setting.mdp, setting.distance):.4f})",
        f"λ = γc  {setting.coef:.4f}",
        "u       = d_F, the least admissible; M̃ is M̂ with rewards r - λu",
    ]


def _returns(setting: Setting, policies: dict[str, Array]) -> list[str]:
    """Return the table of each policy's returns in M, M̂ and M̃."""
    lines = [f"{'policy':<34}{'η_M':>10}{'η_M̂':>11}{'η_M̃':>11}{'ε_u':>10}"]
    for name, policy in policies.items():
        earned = [float(expected_return(mdp, policy)) for mdp in (setting.mdp, setting.model, setting.penalised)]
        cells = [*earned, statements.epsilon_u(setting.model, setting.u, policy)]
        lines.append(_padded(name, 34) + "".join(f"{_rounded(value):>10}" for value in cells))
    return lines


def _row(sides: Equality | Inequality) -> str:
    """Return the line of one statement: name, formula, both sides, and their difference."""
    equal = isinstance(sides, Equality)
    sign, apart = ("=", f"residual {sides.residual:.0e}") if equal else ("≥", f"slack {_rounded(sides.slack)}")
    held = "" if sides.holds() else "  DOES NOT HOLD"
    left, right = _rounded(sides.left), _rounded(sides.right)
    return f"  {sides.name:<14}{_padded(sides.formula, 44)}{left:>9} {sign} {right:>9}   {apart}{held}"


def _verdict(mdp: FiniteMDP, policies: dict[str, Array], gained: float) -> list[str]:
    """Return the lines about π̂. `gained` is the increase of the supremum by stochastic policies."""
    logged, winner, naive, best, _ = policies.values()
    log, true, hoped, most = (float(expected_return(mdp, policy)) for policy in (logged, winner, naive, best))
    actions = ", ".join(str(action) for action in winner.argmax(-1))
    stochastic = (
        f"The supremum's best policy is stochastic, {gained:.4f} above every deterministic one."
        if gained > 1e-6
        else "No stochastic policy was found to be better in the supremum than the best deterministic one."
    )
    return [
        f"Winner: π̂, with actions {actions} in states 0 to {mdp.states - 1}.",
        f"It earns {true:.4f} in M; π^B earns {log:.4f}, the best policy of M̂ without a penalty {hoped:.4f}, of M {most:.4f}.",
        stochastic,
    ]


def _padded(text: str, width: int) -> str:
    """Pad `text` to `width` columns; combining marks (the hat of M̂) have no width."""
    return text + " " * (width - sum(not unicodedata.combining(letter) for letter in text))


def _rounded(value: float) -> str:
    """Format with four decimals, without a minus sign before zero."""
    return f"{round(value, 4) + 0.0:.4f}"
