"""Build the penalised model of stage 2, and the callback that rolls the policy out in it, from settings."""

from dataclasses import replace

from mopo_pl.assembly.log import rewards_of
from mopo_pl.callbacks import RolloutRefresh
from mopo_pl.config.registry import lookup
from mopo_pl.config.schema import PenaltyConfig, RolloutConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import LogStatistics
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.model_on_log import halt_on_log, logged_uncertainty
from mopo_pl.dynamics.penalised_model import PenalisedModel, Reward
from mopo_pl.dynamics.penalties import PENALTIES, Penalty, extras_of, relative_unit
from mopo_pl.dynamics.termination import Rule
from mopo_pl.errors import InputError


def build_penalty(name: str) -> Penalty:
    """Return the function u(s, a) that a built-in name or `module:function` selects. Raises InputError if it cannot be used."""
    try:
        penalty = lookup("penalty", name, PENALTIES)
        extras_of(penalty)
    except ValueError as error:
        raise InputError(f"penalty.name={name}: {error}") from error
    return penalty


def known_reward(name: str | None) -> Reward | None:
    """Return the reward function that `module:function` names, or None for None. Raises InputError if it cannot be found."""
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
    """Build the penalised model M̃.

    Functions that a user supplies are given actions in the log's units. Raises InputError if the penalty is not finite on a row
    of the log.

    Args:
        settings: Settings of the penalty.
        model: The learned transitions.
        termination: The termination rule of imagined episodes.
        dataset: The log.
        reward: The reward function, if it is known; None: the learned reward is used.
        discount: γ.

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
    halt = None
    if settings.halt_widths is not None:
        widths, share = settings.halt_widths, settings.halt_share
        halt = halt_on_log(plain, dataset, rewards, widths=widths, share=share)
    if settings.coef == 0 and not settings.relative and settings.free_quantile is None:
        return replace(plain, halt=halt)
    u = logged_uncertainty(plain, dataset)
    unit = relative_unit(u, rewards) if settings.relative else 1.0
    free = 0.0 if settings.free_quantile is None else float(u.quantile(settings.free_quantile))
    return replace(plain, coef=unit * settings.coef, free=free, halt=halt)


def build_refresh(
    settings: RolloutConfig, model: PenalisedModel, dataset: OfflineDataset, *, seed: int, compile: bool
) -> RolloutRefresh:
    """Build the callback that fills the model buffer with rollouts."""
    return RolloutRefresh(
        model,
        horizon=settings.horizon,
        starts=settings.starts,
        every_n_epochs=settings.every_n_epochs,
        chunk=settings.chunk,
        continue_share=settings.continue_share,
        limits=StateLimits.of(dataset, settings.range_widths),
        max_dropped=settings.max_dropped,
        seed=seed,
        compile=compile,
    )
