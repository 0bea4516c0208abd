"""Call the user's functions and classes on a few logged rows before anything is trained."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mopo_pl.assembly.policy import build_actor
from mopo_pl.config.schema import SACConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import LogStatistics
from mopo_pl.dynamics.penalised_model import Reward
from mopo_pl.dynamics.penalties import Penalty, evaluate, extras_of
from mopo_pl.dynamics.termination import Rule
from mopo_pl.errors import InputError
from mopo_pl.nn.layers import Normaliser

TRIED = 3
"""Number of rows with which a user's function is called before training."""


def try_rule(rule: Rule, name: str | None, dataset: OfflineDataset) -> None:
    """Call the rule on 3 rows; raise InputError where it fails, returns no bool tensor [B], or changes its arguments."""
    ended = _on_three_rows(rule, f"termination={name}", dataset)
    if not isinstance(ended, Tensor) or _shape(ended) != (min(TRIED, len(dataset)),) or ended.dtype != torch.bool:
        raise InputError(
            f"termination={name} must give a bool tensor [B] for states and actions [B, ...]; "
            f"it gave {_described(ended)}"
        )


def try_reward(reward: Reward, name: str, dataset: OfflineDataset) -> None:
    """Call the reward on 3 rows; raise InputError where it fails, returns no floats [B], or changes its arguments."""
    given = _on_three_rows(reward, f"reward={name}", dataset)
    if not isinstance(given, Tensor) or _shape(given) != (min(TRIED, len(dataset)),) or not given.is_floating_point():
        raise InputError(
            f"reward={name} must give floats [B] for states and actions [B, ...]; it gave {_described(given)}"
        )


def _on_three_rows(function: Callable[[Tensor, Tensor, Tensor], Any], name: str, dataset: OfflineDataset) -> Any:
    rows = dataset.transitions[:TRIED]
    actions = LogStatistics.of(dataset).in_log_units(rows.actions)
    arguments = rows.newest_observations, actions, rows.newest_next_observations
    given = [argument.clone() for argument in arguments]
    made = called(lambda: function(*given), name)
    if not all(map(torch.equal, given, arguments)):
        raise InputError(f"{name} changes its arguments in place; let it work on copies")
    return made


def try_actor(settings: SACConfig, dataset: OfflineDataset) -> None:
    """Build the actor and call it on 3 rows; raise InputError where it fails or returns no actions in [-1, 1] and log π."""
    actor = build_actor(settings, dataset, Normaliser.identity(dataset.obs_dim), seed=0)
    rows, name = dataset.transitions[:TRIED], f"sac.actor={settings.actor}"
    noise, generator = torch.zeros_like(rows.actions), torch.Generator().manual_seed(0)
    with torch.no_grad():
        drawn = called(lambda: actor(rows.observations, noise), name)
        if not isinstance(drawn, tuple) or len(drawn) != 2 or _shape(drawn[1]) != (TRIED,):
            raise InputError(f"{name}(s, ε) must give actions [B, A] and log π [B]; it gave {_described(drawn)}")
        for call, made in {
            "(s, ε)": lambda: drawn[0],
            ".act(s, ε)": lambda: actor.act(rows.observations, noise),
            ".mean_action(s)": lambda: actor.mean_action(rows.observations),
            ".sample(s, generator)": lambda: actor.sample(rows.observations, generator),
        }.items():
            actions = called(made, f"{name}: {call}")
            if _shape(actions) != (TRIED, dataset.action_dim) or not (actions.abs() <= 1).all():
                raise InputError(f"{name}{call} must give actions [B, A] in [-1, 1]; it gave {_described(actions)}")


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def try_penalty(penalty: Penalty, name: str, dataset: OfflineDataset, *, members: int) -> None:
    """Call the penalty on 3 rows; raise InputError where it fails, returns no floats [B] >= 0, or changes its arguments."""
    shape = (members, TRIED, 1 + dataset.transitions.newest_dim)
    mean, std = torch.zeros(shape), torch.ones(shape)
    rows, log = dataset.transitions[:TRIED], LogStatistics.of(dataset)
    states, acted = rows.observations.clone(), log.in_log_units(rows.actions)
    u = called(
        lambda: evaluate(penalty, mean, std, extras_of(penalty), observations=states, actions=acted, log=log),
        f"penalty.name={name}",
    )
    if not isinstance(u, Tensor) or u.shape != (TRIED,) or not u.is_floating_point() or not (u >= 0).all():
        raise InputError(
            f"penalty.name={name} must give floats u [B], none below 0, for means and deviations "
            f"[E, B, 1 + D]; it gave {_described(u)}{_lowest(u)}"
        )
    if mean.any() or not (std == 1).all() or not torch.equal(states, rows.observations):
        raise InputError(f"penalty.name={name} changes its arguments in place; let it work on copies")


def called(call: Callable[[], Any], name: str) -> Any:
    """Return the result of `call`; raise InputError with `name` for any exception that it raises."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise InputError(f"{name} fails when it is called: {type(error).__name__}: {error}") from error


def _described(value: object) -> str:
    return (
        f"a tensor {list(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    )


def _lowest(u: object) -> str:
    return (
        f", the lowest of them {float(u.min()):.4g}"
        if isinstance(u, Tensor) and u.numel() and u.is_floating_point()
        else ""
    )
