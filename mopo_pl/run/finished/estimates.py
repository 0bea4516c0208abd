"""Estimate the return of a run's policy without a simulator, with a verdict, as the content of `estimates.json`."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from mopo_pl.assembly.penalised_model import build_penalised_model
from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import returns_to_go
from mopo_pl.diagnostics.estimates import behaviour_clone, fqe
from mopo_pl.diagnostics.estimates.behaviour_clone import BehaviourClone, fit_clone
from mopo_pl.diagnostics.estimates.fqe import FittedValues, fitted_values
from mopo_pl.diagnostics.estimates.hit_rates import stored_hit_rates
from mopo_pl.diagnostics.estimates.logged_returns import LoggedReturns, logged_returns
from mopo_pl.diagnostics.estimates.model_returns import ModelReturns, returns_in_elites
from mopo_pl.diagnostics.estimates.verdict import Evidence, verdict
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.model_on_log import logged_uncertainty
from mopo_pl.dynamics.rollouts import Act
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.run.preparation.inputs import Inputs

FORMAT = 1
PARTS = 5
"""Number of parts of the work that `estimates_of` reports to `begin`."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Limits on the computation of the estimates."""

    imagined_rows: int = 200_000
    """Largest number of imagined rows for each of the two policies. `least_rollouts` may lead to more rows."""
    least_rollouts: int = 10
    """Smallest number of rollouts in each elite."""
    most_rollouts: int = 100
    """Largest number of rollouts in each elite."""
    values: int = 1000
    """Number of start states over which the fitted value is averaged."""
    clone_updates: int = behaviour_clone.UPDATES
    fqe_updates: int = fqe.UPDATES


EFFORT = Effort()
"""Default limits, which take about half a minute on one core."""


def estimates_of(
    config: Config,
    inputs: Inputs,
    policy: Policy,
    *,
    seed: int,
    true_return: float | None = None,
    health: Mapping[str, Any] | None = None,
    effort: Effort | None = None,
    begin: Callable[[str], None] = lambda part: None,
) -> dict[str, Any]:
    """Return the content of `estimates.json` for a policy of a run. The ensemble of `inputs` is moved to the CPU.

    Args:
        config: Configuration of the run.
        inputs: The log, the ensemble, the termination rule and the known reward.
        policy: The policy to estimate.
        seed: Seed of rollouts and networks.
        true_return: Undiscounted mean return of the policy in its environment; None if it is not known.
        health: Health of the training, as in `result.json`; None if it is not known.
        effort: Limits on the computation; None: `EFFORT`.
        begin: Called with the name of each of the `PARTS` parts when it begins.

    """
    assert inputs.model is not None
    assert inputs.rule is not None
    began, effort = time.perf_counter(), effort or EFFORT
    dataset, discount = inputs.dataset, config.sac.discount
    # No halts at the log's edge: the return of the complete rollouts is estimated.
    penalty = replace(config.penalty, halt_widths=None)
    model = build_penalised_model(
        penalty, inputs.model.to("cpu"), inputs.rule, dataset, inputs.reward, discount=discount
    ).to("cpu")
    begin("u over the log")
    log_u = float(logged_uncertainty(model, dataset).double().mean())
    begin("a clone of the log's policy")
    log, clone = logged_returns(dataset, discount), fit_clone(dataset, seed=seed, updates=effort.clone_updates)
    affordable = effort.imagined_rows // (log.steps * len(inputs.model.elites))
    drawn = log.drawn(
        max(effort.least_rollouts, min(effort.most_rollouts, affordable)), generator_for(seed, "estimated starts")
    )
    in_elites = partial(
        returns_in_elites,
        model,
        starts=dataset.transitions[log.rows[drawn]].observations,
        steps=log.steps,
        discount=discount,
        limits=StateLimits.of(dataset, config.rollout.range_widths),
        lowest_reward=float(dataset.transitions.rewards.min()),
    )
    begin("the policy in each elite")
    of_policy = in_elites(policy=_deployed(policy), generator=generator_for(seed, "estimated policy"))
    begin("the clone in each elite")
    of_clone = in_elites(policy=clone.following(log.rows[drawn]), generator=generator_for(seed, "estimated clone"))
    begin("fitted Q evaluation")
    fitted = _fitted(dataset, policy, clone, log, seed, effort)
    logged = {**log.summary(), "epsilon_u": log_u}
    logged_there = float(log.returns[drawn].mean())
    values = {"policy": fitted[0].summary(), "clone": fitted[1].summary()}
    found = {
        "format": FORMAT,
        "seed": seed,
        "protocol": {
            "starts": "episodes" if log.whole_episodes else "logged states",
            "steps": log.steps,
            "discount": discount,
            "rollouts_per_elite": len(drawn),
            "elites": len(inputs.model.elites),
        },
        "log": logged,
        "model": {
            "policy": of_policy.summary(),
            "clone": of_clone.summary(),
            "log": logged_there,
            "bias": float(of_clone.sums["return"].mean()) - logged_there,
        },
        # The return of a few steps from a logged state is not comparable with the true return, which is of complete episodes.
        "bound": _bound(model.coef, of_policy, log_u, true_return if log.whole_episodes else None),
        "fqe": {"updates": effort.fqe_updates, **values, "bias": values["clone"]["mean"] - logged["forever"]},
        "true_return": true_return,
        "health": None if health is None else health["level"],
        "health_signs": []
        if health is None
        else [sign["name"] for sign in health["findings"] if sign["level"] != "OK"],
    }
    evidence = Evidence.of(found)
    found["model"]["believed"], found["fqe"]["believed"] = evidence.model.believed, evidence.fqe.believed
    found["verdict"] = verdict(evidence, stored_hit_rates()).as_json()
    return {**found, "seconds": time.perf_counter() - began}


def _deployed(policy: Policy) -> Act:
    """Return the policy as it is deployed, with its mean action. The noise is ignored."""
    return lambda observations, noise: policy.actor.mean_action(observations)


def _fitted(
    dataset: OfflineDataset, policy: Policy, clone: BehaviourClone, log: LoggedReturns, seed: int, effort: Effort
) -> list[FittedValues]:
    """Return the results of fitted Q evaluation, for the policy and for the clone."""
    # As in training, a row without a known next state is used only if it is terminal.
    usable = dataset.next_known | dataset.transitions.terminals.bool()
    rows = dataset.transitions[usable]
    first = log.rows[log.drawn(min(effort.values, len(log.rows)), generator_for(seed, "valued starts"))]
    starts = dataset.transitions[first]
    spread = float(returns_to_go(dataset, log.discount).std(unbiased=False))
    with torch.no_grad():
        following = torch.stack([policy.actor.mean_action(rows.next_observations), clone.next_actions()[usable]])
        begun = torch.stack([policy.actor.mean_action(starts.observations), starts.actions])
    return fitted_values(
        rows,
        following,
        starts.observations,
        begun,
        discount=log.discount,
        centre=float(log.forever.mean()),
        scale=spread if spread > 0 else 1.0,
        seed=seed,
        updates=effort.fqe_updates,
    )


def _bound(coef: float, returns: ModelReturns, log_u: float, true_return: float | None) -> dict[str, Any]:
    """Return the paper's lower bound of the return: the return in the model with all of u penalised.

    The bound holds if λu is at least the error that a step of the model causes in the value, which is not known. `true_return`: the
    true return over the same steps; None if it is not known.
    """
    lower = float(returns.sums["bound"].mean())
    return {
        "coef": coef,
        "epsilon_u": float(returns.uncertainty.mean()),
        "epsilon_u_log": log_u,
        "penalty": coef * float(returns.discounted_uncertainty.mean()),
        "lower": lower,
        "lower_discounted": float(returns.sums["discounted_bound"].mean()),
        "holds": None if true_return is None else true_return >= lower,
    }
