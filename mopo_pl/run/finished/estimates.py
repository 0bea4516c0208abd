"""`estimates.json`: what a run's policy is believed to earn without a simulator, and the verdict on it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mopo_pl.assembly.penalised_model import build_penalised_model, logged_uncertainty, state_limits
from mopo_pl.assembly.policy import actor_class
from mopo_pl.config.compose import config_from_file
from mopo_pl.config.foreign import OF_A_FINISHED_RUN, REPEAT, TRUST, is_trusted, refuse_named_code
from mopo_pl.config.keys import is_within
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
from mopo_pl.dynamics.rollouts import Act
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.run.inputs import Inputs, ensemble_folder, open_inputs
from mopo_pl.storage.atomic_write import atomic_write
from mopo_pl.storage.run_records import ESTIMATES, read_result

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What the estimates may cost."""

    imagined_rows: int = 200_000
    """Of each of the two policies, at most, but for the least number of rollouts."""
    least_rollouts: int = 10
    """In each elite."""
    most_rollouts: int = 100
    """In each elite."""
    values: int = 1000
    """Starts whose mean is the fitted value."""
    clone_updates: int = behaviour_clone.UPDATES
    fqe_updates: int = fqe.UPDATES


EFFORT = Effort()
"""About half a minute on one core."""


def estimates_of(
    config: Config,
    inputs: Inputs,
    policy: Policy,
    *,
    seed: int,
    true_return: float | None = None,
    health: str | None = None,
    effort: Effort | None = None,
) -> dict[str, Any]:
    """What is written to `estimates.json`, for a policy of that run; the ensemble of `inputs` is moved to the CPU.

    `true_return`: of the policy in its environment, undiscounted, where it is known. `health`: level of the training's health.
    """
    assert inputs.model is not None
    assert inputs.rule is not None
    began, effort = time.perf_counter(), effort or EFFORT
    dataset, discount = inputs.dataset, config.sac.discount
    model = build_penalised_model(
        config.penalty, inputs.model.to("cpu"), inputs.rule, dataset, inputs.reward, discount=discount
    ).to("cpu")
    log_u = float(logged_uncertainty(model, dataset).double().mean())
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
        limits=state_limits(dataset, config.rollout.range_widths),
        lowest_reward=float(dataset.transitions.rewards.min()),
    )
    of_policy = in_elites(policy=_deployed(policy), generator=generator_for(seed, "estimated policy"))
    of_clone = in_elites(policy=clone.following(log.rows[drawn]), generator=generator_for(seed, "estimated clone"))
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
        # A window from a logged state is another sum than the true return, which is of whole episodes.
        "bound": _bound(model.coef, of_policy, log_u, true_return if log.whole_episodes else None),
        "fqe": {"updates": effort.fqe_updates, **values, "bias": values["clone"]["mean"] - logged["forever"]},
        "true_return": true_return,
        "health": health,
    }
    evidence = Evidence.of(found)
    found["model"]["believed"], found["fqe"]["believed"] = evidence.model.believed, evidence.fqe.believed
    found["verdict"] = verdict(evidence, stored_hit_rates()).as_json()
    return {**found, "seconds": time.perf_counter() - began}


def _deployed(policy: Policy) -> Act:
    """The policy as it is deployed: its mean action, whatever the noise."""
    return lambda observations, noise: policy.actor.mean_action(observations)


def _fitted(
    dataset: OfflineDataset, policy: Policy, clone: BehaviourClone, log: LoggedReturns, seed: int, effort: Effort
) -> list[FittedValues]:
    """Fitted Q evaluation of the policy and of the clone."""
    # As in training: without its next state only a terminal row is of use.
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
    """The bound of the paper in practice: the return in the penalised model, all of u penalised, as a lower bound.

    It holds where λu is at least the error that a step of the model makes in value, which nobody knows. `true_return`: of the
    same steps; None where it is not known.
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


def configuration_of(run: Path, settings: Sequence[str]) -> Config:
    """The configuration of a run, with the folder of its ensemble in `dynamics_from`; its callbacks are left out.

    Code and places that it names are followed only where `settings` (key=value) repeat them, or say `trust=true`. Raises InputError
    for others, and for a run without a policy or an ensemble.
    """
    foreign = [
        key for setting in settings if not is_within(key := setting.partition("=")[0], (*OF_A_FINISHED_RUN, TRUST))
    ]
    if foreign:
        allowed = ", ".join((*OF_A_FINISHED_RUN, TRUST))
        raise InputError(f"{', '.join(foreign)}: only {allowed} may be given to estimate")
    config = config_from_file(run / "config.yaml")
    refuse_named_code(
        run / "config.yaml",
        config,
        trust=is_trusted(settings),
        repeated=settings,
        within=OF_A_FINISHED_RUN,
        remedy=REPEAT,
    )
    if config.stage == "dynamics":
        raise InputError(f"{run} holds no policy: it is a run of stage=dynamics; give a run that trained one")
    if not config.uses_model:
        raise InputError(
            f"{run} was trained without an ensemble, in which its policy could be estimated: give a run with algorithm=sac and "
            "rollout.real_ratio below 1"
        )
    return replace(config, dynamics_from=str(ensemble_folder(run)), resume=None, callbacks=[])


def estimate_run(run: Path, *, seed: int, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Estimate the policy of a run folder, and write `estimates.json` into it. Raises InputError as `configuration_of` does."""
    config = configuration_of(run, settings)
    policy = Policy.load(run, actor=actor_class(config.sac.actor))
    return write_estimates(run, config, open_inputs(config), policy, seed=seed)


def write_estimates(run: Path, config: Config, inputs: Inputs, policy: Policy, *, seed: int) -> dict[str, Any]:
    """Estimate a policy and write `estimates.json` into its run folder atomically; its result is read from there."""
    result = read_result(run) or {}
    health = result.get("health")
    found = estimates_of(
        config,
        inputs,
        policy,
        seed=seed,
        true_return=result.get("final_return"),
        health=health.get("level") if isinstance(health, Mapping) else None,
    )
    with atomic_write(run / ESTIMATES) as aside:
        aside.write_text(json.dumps(found, indent=1) + "\n")
    return found


def as_text(run: Path, found: Mapping[str, Any]) -> str:
    """What `python -m mopo_pl estimate RUN` prints."""
    protocol, log, model, fqe, bound = (found[name] for name in ("protocol", "log", "model", "fqe", "bound"))
    earned = model["policy"]["return"]
    lines = [
        f"run        {run}",
        f"log        return {log['return']:.1f} ± {log['std']:.1f} over {protocol['steps']} steps from {log['starts']} "
        f"{protocol['starts']}",
        f"model      return {earned['mean']:.1f}: elites {_list(earned['elites'])}; between them ± {earned['between']:.1f}, "
        f"within ± {earned['within']:.1f}, {protocol['rollouts_per_elite']} rollouts each",
        f"           penalised {model['policy']['penalised']['mean']:.1f}; {model['policy']['dropped_share']:.1%} dropped, "
        f"{model['policy']['ended']} of {model['policy']['rollouts']} ended",
        f"  check    {_check(model)}",
        f"bound      λ {bound['coef']:.3g}, mean u {bound['epsilon_u']:.3g} (log {bound['epsilon_u_log']:.3g}): "
        f"return at least {bound['lower']:.1f} if λu bounds the model's error{_held(bound, found['true_return'])}",
        f"fitted Q   {fqe['policy']['mean']:.1f} discounted: seeds {_list(fqe['policy']['values'])}; lower bound "
        f"{fqe['policy']['lower']:.1f}; the log {log['forever']:.1f}",
        f"  check    {_check(fqe)}",
        f"verdict    {found['verdict']['sentence']}",
        *(f"  {reason['says']:<19}{reason['name']}: {reason['text']}" for reason in found["verdict"]["reasons"]),
    ]
    return "\n".join(lines)


def summary_lines(found: Mapping[str, Any]) -> str:
    """What the summary at the end of a run says of estimates."""
    earned, fqe = found["model"]["policy"]["return"], found["fqe"]["policy"]
    return (
        f"estimate {earned['mean']:.1f} in the model (elites {min(earned['elites']):.1f} to {max(earned['elites']):.1f}; on the "
        f"log's own policy it errs by {found['model']['bias']:+.1f}); fitted Q at least {fqe['lower']:.1f} discounted, the log "
        f"{found['log']['forever']:.1f}\n"
        f"verdict  {found['verdict']['sentence']}"
    )


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _check(estimate: Mapping[str, Any]) -> str:
    believed = "believed" if estimate["believed"] else "not believed"
    return f"on the log's own policy, whose return is known, it errs by {estimate['bias']:+.1f}: {believed}"


def _held(bound: Mapping[str, Any], true_return: float | None) -> str:
    if bound["holds"] is None:
        return ""
    return f"; the true return {true_return:.1f} is {'above' if bound['holds'] else 'below'} it"
