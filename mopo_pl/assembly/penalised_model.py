"""Stage 2: from settings to the penalised model, and to the callback that rolls the policy out in it."""

from dataclasses import replace

import torch
from torch import Tensor

from mopo_pl.callbacks import RolloutRefresh
from mopo_pl.config.registry import lookup
from mopo_pl.config.schema import PenaltyConfig, RolloutConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import LogStatistics, logged_values
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalised_model import Halt, PenalisedModel, StateLimits
from mopo_pl.dynamics.penalties import PENALTIES, Penalty, extras_of, relative_unit
from mopo_pl.dynamics.rewards import Reward
from mopo_pl.dynamics.termination import Rule
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import generator_for

LOGGED_PENALTIES = 20_000
"""Rows of a log from which the mean of u is estimated."""


def build_penalty(name: str) -> Penalty:
    """u(s, a), by name or `module:function`; raises InputError where it cannot be found."""
    try:
        penalty = lookup("penalty", name, PENALTIES)
        extras_of(penalty)
    except ValueError as error:
        raise InputError(f"penalty.name={name}: {error}") from error
    return penalty


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
        halt=None if settings.halt_widths is None else _halt(dataset, settings.halt_widths, discount),
        termination=termination,
        reward=reward,
        log=LogStatistics.of(dataset),
        window=dataset.window,
    )
    if not settings.relative and settings.free_quantile is None:
        return plain
    u = logged_uncertainty(plain, dataset)
    unit = relative_unit(u, dataset.transitions.rewards) if settings.relative else 1.0
    free = 0.0 if settings.free_quantile is None else float(u.quantile(settings.free_quantile))
    return replace(plain, coef=unit * settings.coef, free=free)


def _halt(dataset: OfflineDataset, widths: float, discount: float) -> Halt:
    """What is beyond the log's states, extended by `widths` times their range, is worth no more than the worst of them."""
    return Halt(state_limits(dataset, widths), float(logged_values(dataset, discount).min()))


def state_limits(dataset: OfflineDataset, widths: float) -> StateLimits:
    """The range of a log's states, the last of each episode included, extended by `widths` times itself on either side."""
    states = torch.cat([dataset.transitions.observations, dataset.transitions.next_observations])
    return StateLimits.around(states, widths)


@torch.no_grad()
def logged_uncertainty(model: PenalisedModel, dataset: OfflineDataset) -> Tensor:
    """u of up to 20 000 logged transitions, drawn without replacement and always the same [n]."""
    drawn = torch.randperm(len(dataset), generator=generator_for(0, "logged uncertainty"))[:LOGGED_PENALTIES]
    rows = dataset.transitions
    chunks = [model.uncertainty(rows[chunk].observations, rows[chunk].actions) for chunk in drawn.split(2000)]
    return torch.cat(chunks)


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
