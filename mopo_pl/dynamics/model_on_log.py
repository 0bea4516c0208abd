"""The learned model on rows of the log that it was fitted to: its uncertainty u there, and the `Halt` of the log."""

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
"""Number of rows drawn to represent a log."""
AT_ONCE = 2000
"""Number of rows in one call of the model."""


@torch.no_grad()
def logged_uncertainty(model: PenalisedModel, dataset: OfflineDataset) -> Tensor:
    """Return u of up to 20 000 logged transitions [n], drawn without replacement and always the same ones.

    Raises InputError if a value is not finite, because their mean would not be finite either.
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

    C lies between the spread of the rewards and the width of the range of the log's discounted returns. The lowest of these
    returns is `Halt.lowest`, which limits the price of an unknown step: it need not be worth less than the worst logged return.

    Args:
        model: The penalised model, with the discount γ.
        dataset: The log.
        rewards: Rewards of the rows of the log [N].
        widths: The ranges of the known steps are those of the log, extended by `widths` times their widths.
        share: Share of imagined steps that may be unknown, ε. Added to it is the share of logged states and actions from which the
            model already leads to unknown steps, because of its noise.

    """
    # Rows whose next state is not logged hold s in its place, that is, a change of 0 that was not observed.
    rows = dataset.transitions if dataset.next_known.all() else dataset.transitions[dataset.next_known]
    known = KnownSteps.of(rows.newest_observations, rows.newest_next_observations, widths)
    least, values = reward_spread(rewards), logged_values(dataset, model.discount, rewards)
    low, high = float(values.min()), float(values.max())
    return Halt(
        known=known,
        price_limit=torch.tensor(least, dtype=torch.float64),
        share=share + _departures(replace(model, value_coef=0.0), known, dataset),  # without λ_V: V does not exist yet
        least=least,
        most=max(least, high - low),
        lowest=low,
    )


@torch.no_grad()
def _departures(model: PenalisedModel, known: KnownSteps, dataset: OfflineDataset) -> float:
    """Return the share of up to 20 000 logged states and actions from which the model makes a step outside of the known ones."""
    rows, generator, left, drawn = dataset.transitions, generator_for(0, "logged departures"), 0, _drawn(dataset)
    for part in drawn.split(AT_ONCE):
        states = rows[part].observations
        made = model.step(states, rows[part].actions, model.draw(states, generator)).transitions
        left += int(known.exclude(made.newest_observations, made.newest_next_observations).sum())
    return left / len(drawn)


def _drawn(dataset: OfflineDataset) -> Tensor:
    """Return the indices [n] of rows that represent the complete log, drawn without replacement and always the same."""
    return torch.randperm(len(dataset), generator=generator_for(0, "logged uncertainty"))[
        :DRAWN
    ]  # the generator keeps its old name, so that results do not change
