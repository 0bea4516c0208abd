#!/usr/bin/env python3
"""The statements on thousands of random MDPs: the tables of docs/theory.md.

python benchmarks/theory.py --cases 10000

Each case draws an MDP (rewards of either sign, a terminal state in a third of them), a model of any quality, a distance,
a c (the least valid one or the post's) and an admissible u (the least one or a larger one), and holds every statement
against a handful of policies. Then u is spoilt, so that it is no longer admissible, and what breaks is counted.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from mopo_pl.theory import statements
from mopo_pl.theory.constants import least_constant, post_constant
from mopo_pl.theory.distances import Distance, LineWasserstein, TotalVariation, model_distances
from mopo_pl.theory.draws import draw_mdp, draw_model, draw_policies, draw_positions
from mopo_pl.theory.examples import fork
from mopo_pl.theory.mdp import Array, FiniteMDP
from mopo_pl.theory.policies import maximiser
from mopo_pl.theory.returns import expected_return
from mopo_pl.theory.sides import Equality, Inequality
from mopo_pl.theory.supremum import best_found

STATES, ACTIONS = 5, 3
"""At most."""
DISCOUNTS = (0.0, 0.5, 0.9, 0.99)
"""And uniform draws between 0 and 0.99."""


@dataclass(frozen=True, eq=False)
class Case:
    """What the statements take."""

    mdp: FiniteMDP
    model: FiniteMDP
    distance: Distance
    c: float
    u: Array

    @property
    def coef(self) -> float:
        """λ = γc."""
        return self.mdp.discount * self.c


def draw_case(rng: Generator) -> Case:
    """One case with an admissible u."""
    states, actions = int(rng.integers(1, STATES + 1)), int(rng.integers(1, ACTIONS + 1))
    discount = float(rng.choice([*DISCOUNTS, rng.uniform(0, 0.99)]))
    mdp = draw_mdp(rng, states, actions, discount)
    model = draw_model(rng, mdp)
    distance = TotalVariation() if rng.random() < 0.5 else LineWasserstein(draw_positions(rng, states))
    c = least_constant(mdp, distance) if rng.random() < 0.75 else post_constant(mdp, distance)
    u = model_distances(mdp.transitions, model.transitions, distance)
    return Case(mdp, model, distance, c, u if rng.random() < 0.75 else u + rng.exponential(size=u.shape))


def of_policies(case: Case, policies: Array) -> Iterator[Equality | Inequality]:
    """Every statement about one policy, for each of `policies` [n, S, A]."""
    mdp, model, u, coef = case.mdp, case.model, case.u, case.coef
    for policy in policies:
        yield statements.lemma_4_1(mdp, model, policy)
        yield statements.corollary_identity(mdp, model, policy)
        yield statements.corollary(mdp, model, policy)
        yield statements.inequality_6(mdp, model, policy, case.distance, case.c)
        yield statements.penalised_return(model, u, coef, policy)
        yield statements.inequality_7(mdp, model, u, coef, policy)
        yield statements.two_sided_bound(mdp, model, u, coef, policy)
        yield statements.behaviour_consequence(mdp, model, u, coef, policy)


def half(error: Array) -> Array:
    """Half of the least admissible u."""
    return error / 2


def blind(error: Array) -> Array:
    """The least admissible u, but for the pair (s, a) where the model errs most: of that one it is sure."""
    return np.where(error == error.max(), 0.0, error)


def none(error: Array) -> Array:
    """No penalty, MBPO."""
    return np.zeros_like(error)


INADMISSIBLE = {"half": half, "blind": blind, "none": none}


@dataclass
class Tally:
    """What was seen of one statement."""

    claim: str
    tried: int = 0
    failed: int = 0
    worst: float = -np.inf
    """The largest scaled residual, or minus the least scaled slack."""

    def add(self, sides: Equality | Inequality) -> None:
        """Counts one trial."""
        self.tried += 1
        self.failed += not sides.holds()
        self.worst = max(self.worst, sides.residual if isinstance(sides, Equality) else -sides.scaled_slack)


@dataclass
class Study:
    """Counts over all cases."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    gains: list[float] = field(default_factory=list)
    """By how much a stochastic policy beats the best deterministic one in the supremum, relative to its size."""
    broken: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Cases in which a statement fails, by the statement and what was done to u."""
    counterexample: tuple[Case, Inequality] | None = None
    """The smallest case whose theorem fails with a blind u."""

    def add(self, sides: Equality | Inequality) -> None:
        """Counts one trial of a statement."""
        self.tallies.setdefault(sides.name, Tally(sides.claim)).add(sides)

    def try_admissible(self, case: Case, policies: Array) -> None:
        """Every statement, the theorem against a supremum over stochastic policies too."""
        winner = maximiser(case.model.penalised(case.u, case.coef))
        candidate, supremum, deterministic = best_found(case.mdp, case.model, case.u, case.coef)
        compared = np.stack([*policies, winner, maximiser(case.mdp), candidate])
        for sides in of_policies(case, compared):
            self.add(sides)
        self.add(statements.theorem(case.mdp, case.model, case.u, case.coef, compared))
        self.gains.append((supremum - deterministic) / max(1.0, abs(supremum)))

    def try_inadmissible(self, case: Case, policies: Array) -> None:
        """The same with u that are too small somewhere, and the least valid c."""
        mdp, model = case.mdp, case.model
        c, error = (
            least_constant(mdp, case.distance),
            model_distances(mdp.transitions, model.transitions, case.distance),
        )
        compared = np.stack([*policies, maximiser(mdp)])
        for kind, spoil in INADMISSIBLE.items():
            spoilt = Case(mdp, model, case.distance, c, spoil(error))
            seen = [sides for sides in of_policies(spoilt, compared) if isinstance(sides, Inequality)]
            seen.append(statements.theorem(mdp, model, spoilt.u, spoilt.coef, compared))
            for name in {sides.name for sides in seen if not sides.holds(1e-6)}:
                self.broken[name, kind] += 1
            if kind == "blind" and not seen[-1].holds(0.01) and self._smaller(spoilt):
                self.counterexample = spoilt, seen[-1]

    def _smaller(self, case: Case) -> bool:
        return self.counterexample is None or case.mdp.rewards.size < self.counterexample[0].mdp.rewards.size


def print_admissible(study: Study, cases: int, seconds: float) -> None:
    """The table of statements."""
    print(f"{cases} cases of at most {STATES} states and {ACTIONS} actions, γ from 0 to 0.99; {seconds:.0f} s\n")
    print("| statement | | tried | failed | worst residual or least slack, scaled |")
    print("|---|---|---|---|---|")
    for name, tally in study.tallies.items():
        worst = tally.worst if "=" in name or "Lemma" in name else -tally.worst
        print(f"| {name} | {tally.claim.replace('|', chr(92) + '|')} | {tally.tried} | {tally.failed} | {worst:.1e} |")
    gains = np.array(study.gains)
    print(f"\nThe supremum's best policy was stochastic in {(gains > 1e-6).sum()} cases, by up to {gains.max():.1%}.")


def print_inadmissible(study: Study) -> None:
    """In how many cases what breaks where u is not admissible, and one of them in full."""
    print("\nCases that fail where u is not admissible:\n")
    print("| | " + " | ".join(INADMISSIBLE) + " |")
    print("|" + "---|" * (1 + len(INADMISSIBLE)))
    for name in ("(7), ≥", "Two-sided", "Theorem", "Behaviour"):
        print(f"| {name} | " + " | ".join(str(study.broken[name, kind]) for kind in INADMISSIBLE) + " |")
    if study.counterexample is not None:
        case, sides = study.counterexample
        mdp, model, winner = case.mdp, case.model, maximiser(case.model.penalised(case.u, case.coef))
        print(
            f"\nThe theorem's smallest, blind: {sides.left:.3f} is not >= {sides.right:.3f}, with λ = {case.coef:.3f} and"
        )
        for name, array in (("T", mdp.transitions), ("T̂", model.transitions), ("r", mdp.rewards), ("u", case.u)):
            print(f"  {name} = {np.round(array, 3).tolist()}")
        if isinstance(case.distance, LineWasserstein):
            print(f"  x = {np.round(case.distance.positions, 3).tolist()}")
        print(f"  μ = {np.round(mdp.start, 3).tolist()}, γ = {mdp.discount:.3f}, {case.distance.name}")
        seen, true = expected_return(model.penalised(case.u, case.coef), winner), expected_return(mdp, winner)
        print(f"  π̂ = {winner.argmax(-1).tolist()}: η_M̃ says {seen:.3f}, η_M is {true:.3f}")


def print_equality() -> None:
    """The fork, on which every bound is attained."""
    example, distance = fork(), TotalVariation()
    u = model_distances(example.mdp.transitions, example.model.transitions, distance)
    case = Case(example.mdp, example.model, distance, post_constant(example.mdp, distance), u)
    print("\nThe fork (mopo_pl/theory/examples.py), where both sides are equal:\n")
    winner = maximiser(example.model.penalised(u, case.coef))
    compared = np.stack([winner, example.behaviour])
    shown = [*of_policies(case, compared[:1]), statements.theorem(case.mdp, case.model, u, case.coef, compared)]
    shown[-2] = statements.behaviour_consequence(case.mdp, case.model, u, case.coef, example.behaviour)
    for sides in shown:
        print(f"- {sides.name}: {sides.left:g} and {sides.right:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    study, began = Study(), time.perf_counter()
    for number in range(options.cases):
        rng = np.random.default_rng([options.seed, number])
        case = draw_case(rng)
        policies = draw_policies(rng, case.mdp, 3)
        study.try_admissible(case, policies)
        study.try_inadmissible(case, policies)
    print_admissible(study, options.cases, time.perf_counter() - began)
    print_inadmissible(study)
    print_equality()


if __name__ == "__main__":
    main()
