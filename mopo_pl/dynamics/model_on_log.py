"""The learned model on the rows of its own log: u there, and `Halt`, which ends episodes where the log does."""

from dataclasses import replace

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import logged_values
from mopo_pl.dynamics.known_steps import Halt, KnownSteps
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.penalties import reward_spread
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import generator_for

DRAWN = 20_000
"""Rows of a log that stand for all of them."""
AT_ONCE = 2000
"""Rows that the model is given at once."""


@torch.no_grad()
def logged_uncertainty(model: PenalisedModel, dataset: OfflineDataset) -> Tensor:
    """u of up to 20 000 logged transitions, drawn without replacement and always the same [n].

    Raises InputError where one is no finite number: a mean of them would be none either.
    """
    rows, drawn = dataset.transitions, _drawn(dataset)
    u = torch.cat([model.uncertainty(rows[part].observations, rows[part].actions) for part in drawn.split(AT_ONCE)])
    bad = ~u.isfinite()
    if bad.any():
        name = getattr(model.penalty, "__name__", type(model.penalty).__name__)
        raise InputError(
            f"the penalty {name} is {float(u[bad][0])} for {int(bad.sum())} of {len(u)} logged rows, the first of them row "
            f"{int(drawn[bad][0])}: it must give finite numbers"
        )
    return u


def halt_on_log(
    model: PenalisedModel, dataset: OfflineDataset, rewards: Tensor, *, widths: float, share: float
) -> Halt:
    """Build the `Halt` of a log, for a model that has none yet.

    Its known steps are the log's, extended by `widths` times their ranges. C lies between the spread of the rewards [N] of its rows
    and the width of the range of its discounted returns. The worst of these bounds what a step beyond is worth: what is unknown need
    not be feared more than the worst that the log shows. `share`: of imagined steps that may lead beyond, ε; the share of the log's own
    states and actions from which the model's noise alone leads beyond is added to it.
    """
    # Where the next state is not logged, s stands in for it: a change of 0 that nobody saw.
    rows = dataset.transitions if dataset.next_known.all() else dataset.transitions[dataset.next_known]
    known = KnownSteps.of(rows.newest_observations, rows.newest_next_observations, widths)
    least, values = reward_spread(rewards), logged_values(dataset, model.discount, rewards)
    low, high = float(values.min()), float(values.max())
    return Halt(
        known=known,
        price_limit=torch.tensor(least, dtype=torch.float64),
        share=share
        + _departures(replace(model, value_coef=0.0), known, dataset),  # V, which it needs, is not there yet
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
    return torch.randperm(len(dataset), generator=generator_for(0, "logged uncertainty"))[
        :DRAWN
    ]  # the stream's old name, so that runs stay the same
