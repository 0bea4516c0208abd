"""The learned model on the rows of its own log: u there, and `Halt`, which ends episodes where the log does."""

from dataclasses import replace

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import logged_values
from mopo_pl.dynamics.known_steps import Halt, KnownSteps
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.penalties import reward_spread
from mopo_pl.nn.random_streams import generator_for

DRAWN = 20_000
"""Rows of a log that stand for all of them."""
AT_ONCE = 2000
"""Rows that the model is given at once."""


@torch.no_grad()
def logged_uncertainty(model: PenalisedModel, dataset: OfflineDataset) -> Tensor:
    """u of up to 20 000 logged transitions, drawn without replacement and always the same [n]."""
    rows = dataset.transitions
    parts = [model.uncertainty(rows[part].observations, rows[part].actions) for part in _drawn(dataset).split(AT_ONCE)]
    return torch.cat(parts)


def halt_on_log(
    model: PenalisedModel, dataset: OfflineDataset, rewards: Tensor, *, widths: float, share: float
) -> Halt:
    """What goes further than the log's steps by `widths` times their ranges, for the rewards [N] of its rows.

    C lies between the spread of the rewards and the width of the range of the log's discounted returns. The worst of these bounds what
    such a step is worth: what is unknown need not be feared more than the worst that the log shows. Noise alone may lead from the log's
    own states and actions out of the known steps: the share of them for which it does is added to `share`.
    """
    # Where the next state is not logged, s stands in for it: a change of 0 that nobody saw.
    rows = dataset.transitions if dataset.next_known.all() else dataset.transitions[dataset.next_known]
    known = KnownSteps.of(rows.newest_observations, rows.newest_next_observations, widths)
    least, values = reward_spread(rewards), logged_values(dataset, model.discount, rewards)
    low, high = float(values.min()), float(values.max())
    return Halt(
        known=known,
        cost=torch.tensor(least, dtype=torch.float64),
        share=share + _departures(replace(model, value_coef=0.0), known, dataset),
        least=least,
        most=max(least, high - low),
        lowest=low,
    )


@torch.no_grad()
def _departures(model: PenalisedModel, known: KnownSteps, dataset: OfflineDataset) -> float:
    """Share of up to 20 000 logged states and actions from which the model leads out of the known steps."""
    rows, generator, left, drawn = dataset.transitions, generator_for(0, "logged departures"), 0, _drawn(dataset)
    for part in drawn.split(AT_ONCE):
        states = rows[part].observations
        made = model.step(states, rows[part].actions, model.draw(states, generator)).transitions
        left += int(known.exclude(made.newest_observations, made.newest_next_observations).sum())
    return left / len(drawn)


def _drawn(dataset: OfflineDataset) -> Tensor:
    """Rows that stand for the whole log [n], without replacement and always the same."""
    return torch.randperm(len(dataset), generator=generator_for(0, "logged uncertainty"))[:DRAWN]
