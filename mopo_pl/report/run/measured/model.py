"""Errors of a run's ensemble on its log, and how well its uncertainty predicts them."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from mopo_pl.assembly.ensemble import build_samples
from mopo_pl.config.compose import config_from_file
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.diagnostics.one_step import OneStep, one_step, predict, sampled_episodes, target_names
from mopo_pl.diagnostics.open_loop import OpenLoop, known_stretch, open_loop
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalised_model import Value
from mopo_pl.dynamics.penalties import PENALTIES
from mopo_pl.report.run.measured.parts import Parts, uncharged_model
from mopo_pl.storage.run_records import read_record

HELD_OUT = 20_000
"""Largest number of held-out rows on which one-step errors are measured."""
SAMPLED = 1000
"""Number of rows of sampled episodes, used where the held-out rows are not known."""
STARTS = 500
"""Largest number of starts of open-loop replays."""
HORIZON = (10, 100)
"""Least and greatest length of an open-loop replay; within these limits it is the length of the rollouts [steps]."""
VALUE_SPREAD = "value_spread"
"""Name of λ_V's term in the list of penalties."""


@dataclass(frozen=True, kw_only=True)
class MeasuredModel:
    """Errors of the ensemble, and how well its uncertainty predicts them."""

    folder: str
    """Folder of the run that trained the ensemble."""
    held_out: bool
    """Whether the rows were held out from the training of the ensemble."""
    members: int
    elites: list[int]
    one_step: OneStep
    open_loop: OpenLoop


def of_model(parts: Parts) -> MeasuredModel | None:
    """Measure the errors of the model on held-out rows; returns None where there is no model, or too few rows."""
    model, dataset, home = parts.model, parts.dataset, parts.home
    if model is None or home is None:
        return None
    rows = _held_out(home, dataset)
    held_out = rows is not None
    rows = sampled_episodes(dataset, rows=SAMPLED, seed=0) if rows is None else rows[:HELD_OUT]
    if len(rows) < 2:
        return None
    penalties = dict(PENALTIES) | ({} if parts.penalty is None else {parts.config.penalty.name: parts.penalty})
    predicted = predict(model, dataset, rows, penalties)
    if parts.value is not None:
        predicted.penalties[VALUE_SPREAD] = _value_spread(parts, model, parts.value, rows)
    starts = rows[known_stretch(dataset)[rows] > 0][:STARTS]
    least, most = HORIZON
    return MeasuredModel(
        folder=str(home),
        held_out=held_out,
        members=model.ensemble.members,
        elites=model.elites.tolist(),
        one_step=one_step(predicted, target_names(dataset.transitions, parts.names), seed=0),
        open_loop=open_loop(model, dataset, starts, min(max(parts.config.rollout.horizon, least), most), parts.names),
    )


def _held_out(home: Path, dataset: OfflineDataset) -> Tensor | None:
    """Return the rows that the ensemble held out [n]; None where its run has no record of them, or was trained on another log."""
    facts = read_record(home / "dynamics.json") or {}
    if not (home / "config.yaml").exists() or facts.get("dataset") not in (None, dataset.hash):
        return None
    source = config_from_file(home / "config.yaml")
    try:
        return build_samples(source.dynamics, dataset, seed=source.seed).holdout
    except ValueError:
        return None


@torch.no_grad()
def _value_spread(parts: Parts, model: TransitionModel, value: Value, rows: Tensor) -> Tensor:
    """Return std_i [r_i + γ(1 - d_i)·V(s'_i)] over the elites for logged rows [n]: the charge for λ_V = 1."""
    charged = replace(uncharged_model(parts, model), value_coef=1.0, value=value)
    part = parts.dataset.transitions[rows]
    draws = charged.draw(part.observations, Generator().manual_seed(0))  # random outcomes, which have no effect here
    return charged.step(part.observations, part.actions, draws)[1].double()
