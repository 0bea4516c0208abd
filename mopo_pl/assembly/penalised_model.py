"""Stage 2: from settings to the penalised model, and to the callback that rolls the policy out in it."""

from dataclasses import replace

import torch
from torch import Tensor

from mopo_pl.assembly.log import rewards_of
from mopo_pl.callbacks import RolloutRefresh
from mopo_pl.config.registry import lookup
from mopo_pl.config.schema import PenaltyConfig, RolloutConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import LogStatistics, logged_values
from mopo_pl.dynamics.known_steps import Halt, KnownSteps, StateLimits
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalised_model import PenalisedModel, Reward
from mopo_pl.dynamics.penalties import PENALTIES, Penalty, extras_of, relative_unit, reward_spread
from mopo_pl.dynamics.termination import Rule
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import generator_for

LOGGED_ROWS = 20_000
"""Rows of a log that are drawn where all of them would take too long."""


def build_penalty(name: str) -> Penalty:
    """u(s, a), by name or `module:function`; raises InputError where it cannot be found."""
    try:
        penalty = lookup("penalty", name, PENALTIES)
        extras_of(penalty)
    except ValueError as error:
        raise InputError(f"penalty.name={name}: {error}") from error
    return penalty


def known_reward(name: str | None) -> Reward | None:
    """The function that `module:function` names; None for None. Raises InputError where it cannot be found."""
    if name is None:
        return None
    try:
        return lookup("reward", name, {})
    except ValueError as error:
        raise InputError(f"reward={name}: {error}") from error


def build_penalised_model(
    settings: PenaltyConfig,
    model: TransitionModel,
    termination: Rule,
    dataset: OfflineDataset,
    reward: Reward | None = None,
    *,
    discount: float,
) -> PenalisedModel:
    """M̃: the model, its penalty, the rule that ends its episodes, the reward where it is known, and γ.

    Functions of the user's own see actions in the log's units.
    """
    plain = PenalisedModel(
        transition=model,
        penalty=build_penalty(settings.name),
        coef=settings.coef,
        value_coef=settings.value_coef,
        discount=discount,
        termination=termination,
        reward=reward,
        log=LogStatistics.of(dataset),
        window=dataset.window,
    )
    rewards = rewards_of(dataset, reward)
    halt = None if settings.halt_widths is None else _halt(settings, plain, dataset, rewards)
    if not settings.relative and settings.free_quantile is None:
        return replace(plain, halt=halt)
    u = logged_uncertainty(plain, dataset)
    unit = relative_unit(u, rewards) if settings.relative else 1.0
    free = 0.0 if settings.free_quantile is None else float(u.quantile(settings.free_quantile))
    return replace(plain, coef=unit * settings.coef, free=free, halt=halt)


def _halt(settings: PenaltyConfig, model: PenalisedModel, dataset: OfflineDataset, rewards: Tensor) -> Halt:
    """What goes further than the log's steps by `halt_widths` times their ranges, for the rewards [N] of its rows.

    C lies between the spread of the rewards and the width of the range of the log's discounted returns. The worst of these bounds what
    such a step is worth: what is unknown need not be feared more than the worst that the log shows. Noise alone may lead from the log's
    own states and actions out of the known steps: the share of them for which it does is added to `halt_share`.
    """
    assert settings.halt_widths is not None
    # Where the next state is not logged, s stands in for it: a change of 0 that nobody saw.
    rows = dataset.transitions if dataset.next_known.all() else dataset.transitions[dataset.next_known]
    known = KnownSteps.of(rows.newest_observations, rows.newest_next_observations, settings.halt_widths)
    least, values = reward_spread(rewards), logged_values(dataset, model.discount, rewards)
    low, high = float(values.min()), float(values.max())
    return Halt(
        known=known,
        cost=torch.tensor(least, dtype=torch.float64),
        share=settings.halt_share + _logged_departures(replace(model, value_coef=0.0), known, dataset),
        least=least,
        most=max(least, high - low),
        lowest=low,
    )


@torch.no_grad()
def _logged_departures(model: PenalisedModel, known: KnownSteps, dataset: OfflineDataset) -> float:
    """Share of up to 20 000 logged states and actions from which the model leads out of the known steps."""
    rows, generator, left, drawn = dataset.transitions, generator_for(0, "logged departures"), 0, _drawn(dataset)
    for chunk in drawn.split(2000):
        states = rows[chunk].observations
        made = model.step(states, rows[chunk].actions, model.draw(states, generator)).transitions
        left += int(known.exclude(made.newest_observations, made.newest_next_observations).sum())
    return left / len(drawn)


def state_limits(dataset: OfflineDataset, widths: float) -> StateLimits:
    """The range of a log's states, the last of each episode included, extended by `widths` times itself on either side."""
    states = torch.cat([dataset.transitions.observations, dataset.transitions.next_observations])
    return StateLimits.around(states, widths)


@torch.no_grad()
def logged_uncertainty(model: PenalisedModel, dataset: OfflineDataset) -> Tensor:
    """u of up to 20 000 logged transitions, drawn without replacement and always the same [n]."""
    rows = dataset.transitions
    chunks = [model.uncertainty(rows[chunk].observations, rows[chunk].actions) for chunk in _drawn(dataset).split(2000)]
    return torch.cat(chunks)


def _drawn(dataset: OfflineDataset) -> Tensor:
    """Rows that stand for the whole log [n], without replacement and always the same."""
    return torch.randperm(len(dataset), generator=generator_for(0, "logged uncertainty"))[:LOGGED_ROWS]


def build_refresh(
    settings: RolloutConfig, model: PenalisedModel, dataset: OfflineDataset, *, seed: int, compile: bool
) -> RolloutRefresh:
    """The callback that fills the model buffer."""
    return RolloutRefresh(
        model,
        horizon=settings.horizon,
        starts=settings.starts,
        every_n_epochs=settings.every_n_epochs,
        chunk=settings.chunk,
        continue_share=settings.continue_share,
        limits=state_limits(dataset, settings.range_widths),
        max_dropped=settings.max_dropped,
        seed=seed,
        compile=compile,
    )
