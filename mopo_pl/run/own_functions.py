"""Functions of the user's own, called once before anything is trained: better now than after the ensemble's hours."""

from collections.abc import Callable

import torch
from torch import Tensor

from mopo_pl.config import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.penalty import Penalty
from mopo_pl.dynamics.termination import Rule
from mopo_pl.problems import InputError

TRIED = 3
"""Rows that they are called with."""


def try_rule(rule: Rule, config: Config, dataset: OfflineDataset) -> None:
    """Raises InputError where the rule for the end of episodes fails, gives no bool tensor [B], or changes its arguments."""
    rows = dataset.transitions[:TRIED]
    given = [rows.observations.clone(), rows.actions.clone(), rows.next_observations.clone()]
    ended = _called(lambda: rule(*given), f"termination={config.termination}")
    if not isinstance(ended, Tensor) or ended.shape != rows.rewards.shape or ended.dtype != torch.bool:
        raise InputError(
            f"termination={config.termination} must give a bool tensor [B] for states and actions [B, ...]; "
            f"it gave {_described(ended)}"
        )
    if not all(map(torch.equal, given, (rows.observations, rows.actions, rows.next_observations))):
        raise InputError(f"termination={config.termination} changes its arguments in place; let it work on copies")


def try_penalty(penalty: Penalty, config: Config, dataset: OfflineDataset) -> None:
    """Raises InputError where u fails, gives no floats [B] of at least 0, or changes its arguments."""
    shape = (config.dynamics.members, TRIED, 1 + dataset.obs_dim)
    mean, std = torch.zeros(shape), torch.ones(shape)
    u = _called(lambda: penalty(mean, std), f"penalty.name={config.penalty.name}")
    if not isinstance(u, Tensor) or u.shape != (TRIED,) or not u.is_floating_point() or not (u >= 0).all():
        raise InputError(
            f"penalty.name={config.penalty.name} must give floats u [B], none below 0, for means and deviations "
            f"[E, B, 1 + D]; it gave {_described(u)}"
        )
    if mean.any() or not (std == 1).all():
        raise InputError(f"penalty.name={config.penalty.name} changes its arguments in place; let it work on copies")


def _called(call: Callable[[], object], name: str) -> object:
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise InputError(f"{name} fails when it is called: {type(error).__name__}: {error}") from error


def _described(value: object) -> str:
    return (
        f"a tensor {list(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    )
