#!/usr/bin/env python3
"""Evaluate the statements on thousands of random MDPs; prints the tables of docs/theory.md.

python benchmarks/theory.py --cases 10000

Each case draws an MDP (rewards of either sign, a terminal state in a third of them), a model of any quality, a
distance, a c (the least valid one, or that of the rewards alone) and an admissible u (the least one or a larger one),
and evaluates every statement for several policies. Then u is reduced so that it is not admissible, and the statements
that fail are counted.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator

from mopo_pl.theory import statements
from mopo_pl.theory.distances import LineWasserstein, TotalVariation
from mopo_pl.theory.examples import draw_mdp, draw_model, draw_policies, draw_positions, fork
from mopo_pl.theory.mdp import Array
from mopo_pl.theory.policies import deterministic_policies, maximiser
from mopo_pl.theory.returns import expected_return
from mopo_pl.theory.setting import Setting, constant_from_rewards
from mopo_pl.theory.statements import Equality, Inequality
from mopo_pl.theory.supremum import best_found

STATES, ACTIONS = 5, 3
"""Maximum numbers."""
DISCOUNTS = (0.0, 0.5, 0.9, 0.99)
"""Discount factors; further ones are drawn uniformly between 0 and 0.99."""


def draw_setting(rng: Generator) -> Setting:
    """Draw one case with a valid c and an admissible u."""
    states, actions = int(rng.integers(1, STATES + 1)), int(rng.integers(1, ACTIONS + 1))
    discount = float(rng.choice([*DISCOUNTS, rng.uniform(0, 0.99)]))
    mdp = draw_mdp(rng, states, actions, discount)
    model = draw_model(rng, mdp)
    distance = TotalVariation() if rng.random() < 0.5 else LineWasserstein(draw_positions(rng, states))
    setting = Setting.tightest(mdp, model, distance)
    if rng.random() < 0.25:
        setting = replace(setting, c=constant_from_rewards(mdp, distance))
    if rng.random() < 0.25:
        setting = replace(setting, u=setting.u + rng.exponential(size=setting.u.shape))
    return setting


def of_policies(setting: Setting, policies: Array) -> Iterator[Equality | Inequality]:
    """Yield every statement for each of `policies` [n, S, A], then the theorem with all of them in the supremum."""
    for policy in policies:
        yield from statements.about_policy(setting, policy)
        yield statements.behaviour_consequence(setting.mdp, setting.model, setting.u, setting.coef, policy)
    yield statements.theorem(setting.mdp, setting.model, setting.u, setting.coef, policies)


def half(error: Array) -> Array:
    """Half of the least admissible u."""
    return error / 2


def blind(error: Array) -> Array:
    """The least admissible u, with 0 at the pair (s, a) where the model's error is largest."""
    return np.where(error == error.max(), 0.0, error)


def none(error: Array) -> Array:
    """No penalty, as in MBPO."""
    return np.zeros_like(error)


INADMISSIBLE = {"half": half, "blind": blind, "none": none}


@dataclass
class Tally:
    """Counts for one statement."""

    formula: str
    tried: int = 0
    failed: int = 0
    worst: float = -np.inf
    """The largest scaled residual, or minus the least scaled slack."""

    def add(self, sides: Equality | Inequality) -> None:
        """Count one evaluation."""
        self.tried += 1
        self.failed += not sides.holds()
        self.worst = max(self.worst, sides.residual if isinstance(sides, Equality) else -sides.scaled_slack)


@dataclass
class Study:
    """Counts over all cases."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    gains: list[float] = field(default_factory=list)
    """By how much a stochastic policy exceeds the best deterministic one in the supremum, relative to its size."""
    broken: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of cases in which a statement fails, by the statement and the reduction of u."""
    counterexample: tuple[Setting, Inequality] | None = None
    """The smallest case in which the theorem fails with a blind u."""

    def try_admissible(self, setting: Setting, policies: Array) -> None:
        """Evaluate every statement; the theorem's supremum includes stochastic policies."""
        mdp, model, u, coef = setting.mdp, setting.model, setting.u, setting.coef
        candidate, supremum, deterministic = best_found(mdp, model, u, coef)
        for sides in of_policies(
            setting, np.stack([*policies, maximiser(setting.penalised), maximiser(mdp), candidate])
        ):
            self.tallies.setdefault(sides.name, Tally(sides.formula)).add(sides)
        self.gains.append((supremum - deterministic) / max(1.0, abs(supremum)))

    def try_inadmissible(self, setting: Setting, policies: Array) -> None:
        """Evaluate every statement with penalties u that are too small somewhere, and the least valid c."""
        tightest = Setting.tightest(setting.mdp, setting.model, setting.distance)
        for kind, reduce in INADMISSIBLE.items():
            reduced = replace(tightest, u=reduce(tightest.u))
            seen = list(of_policies(reduced, np.stack([*policies, maximiser(setting.mdp)])))
            for name in {sides.name for sides in seen if not sides.holds(1e-6)}:
                self.broken[name, kind] += 1
            theorem = seen[-1]
            if (
                kind == "blind"
                and isinstance(theorem, Inequality)
                and not theorem.holds(0.01)
                and self._smaller(reduced)
            ):
                self.counterexample = reduced, theorem

    def _smaller(self, setting: Setting) -> bool:
        return self.counterexample is None or setting.u.size < self.counterexample[0].u.size


def print_admissible(study: Study, cases: int, seconds: float) -> None:
    """Print the table of statements."""
    print(f"{cases} cases of at most {STATES} states and {ACTIONS} actions, γ from 0 to 0.99; {seconds:.0f} s\n")
    print("| statement | | tried | failed | worst residual or least slack, scaled |")
    print("|---|---|---|---|---|")
    for name, tally in study.tallies.items():
        worst = tally.worst if "=" in name or "Lemma" in name else -tally.worst
        print(
            f"| {name} | {tally.formula.replace('|', chr(92) + '|')} | {tally.tried} | {tally.failed} | {worst:.1e} |"
        )
    gains = np.array(study.gains)
    print(f"\nThe supremum's best policy was stochastic in {(gains > 1e-6).sum()} cases, by up to {gains.max():.1%}.")


def print_inadmissible(study: Study) -> None:
    """Print how often each statement fails for u that are not admissible, and one counterexample."""
    print("\nCases that fail where u is not admissible:\n")
    print("| | " + " | ".join(INADMISSIBLE) + " |")
    print("|" + "---|" * (1 + len(INADMISSIBLE)))
    for name in ("(7), ≥", "Two-sided", "Theorem"):
        print(f"| {name} | " + " | ".join(str(study.broken[name, kind]) for kind in INADMISSIBLE) + " |")
    if study.counterexample is not None:
        print_case(*study.counterexample)


def print_case(setting: Setting, sides: Inequality) -> None:
    """Print all numbers of the theorem's smallest counterexample."""
    mdp, winner = setting.mdp, maximiser(setting.penalised)
    print(
        f"\nThe theorem's smallest counterexample, blind: {sides.left:.3f} < {sides.right:.3f}, with λ = {setting.coef:.3f} and"
    )
    for name, array in (("T", mdp.transitions), ("T̂", setting.model.transitions), ("r", mdp.rewards), ("u", setting.u)):
        print(f"  {name} = {np.round(array, 3).tolist()}")
    if isinstance(setting.distance, LineWasserstein):
        print(f"  x = {np.round(setting.distance.positions, 3).tolist()}")
    print(f"  μ = {np.round(mdp.start, 3).tolist()}, γ = {mdp.discount:.3f}, {setting.distance.name}")
    seen, true = expected_return(setting.penalised, winner), expected_return(mdp, winner)
    print(f"  π̂ = {winner.argmax(-1).tolist()}: η_M̃ says {seen:.3f}, η_M is {true:.3f}")


def print_equality() -> None:
    """Print the statements on the fork, where every inequality is an equality."""
    example = fork()
    setting = Setting.tightest(example.mdp, example.model, TotalVariation())
    print("\nThe fork (mopo_pl/theory/examples.py), where both sides are equal:\n")
    arguments = setting.mdp, setting.model, setting.u, setting.coef
    of_theorem = [
        statements.theorem(*arguments, deterministic_policies(setting.mdp.states, setting.mdp.actions)),
        statements.behaviour_consequence(*arguments, example.behaviour),
    ]
    for sides in [*statements.about_policy(setting, maximiser(setting.penalised)), *of_theorem]:
        print(f"- {sides.name}: {sides.left:g} and {sides.right:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.cases < 1 or options.seed < 0:
        parser.error("--cases must be at least 1, --seed at least 0")
    study, began = Study(), time.perf_counter()
    for number in range(options.cases):
        rng = np.random.default_rng([options.seed, number])
        setting = draw_setting(rng)
        policies = draw_policies(rng, setting.mdp, 3)
        study.try_admissible(setting, policies)
        study.try_inadmissible(setting, policies)
    print_admissible(study, options.cases, time.perf_counter() - began)
    print_inadmissible(study)
    print_equality()


if __name__ == "__main__":
    main()
