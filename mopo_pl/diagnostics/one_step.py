"""One-step errors of the model on held-out transitions, compared with the σ and u that it predicts.

There are T = 1 + D targets, as everywhere in the project: the reward, then the change of each observation column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import LogStatistics
from mopo_pl.data.transitions import Transitions
from mopo_pl.diagnostics.calibration import (
    LEVELS,
    by_decile,
    conformal_factor,
    log_likelihood,
    normal_coverage,
    spearman,
    worst_auroc,
    z_scale,
)
from mopo_pl.dynamics.losses import model_target
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalties import Penalty, evaluate, extras_of
from mopo_pl.nn.random_streams import generator_for

WORST = 0.1
"""Share of the rows that count as the worst, those of the largest errors."""
LEVEL = 0.9
"""Probability of the intervals whose coverage is reported for each column."""
CHUNK = 2000
"""Number of rows that are predicted at once."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions of the ensemble for n rows with the true targets, in float64 and the log's units."""

    target: Tensor
    """True reward and change of state (r, Δs) [n, T]."""
    mean: Tensor
    """Mean of the elites' mixture [n, T]."""
    std: Tensor
    """Standard deviation of the elites' mixture, sqrt(mean_i σ_i² + var_i μ_i) [n, T]."""
    spread: Tensor
    """Standard deviation of each target over the log [T]; 0 for a constant target, which leaves nothing to predict."""
    penalties: dict[str, Tensor]
    """u of each penalty [n], by the name of the penalty."""

    @property
    def errors(self) -> Tensor:
        """Return the true targets minus the predicted means [n, T]."""
        return self.target - self.mean


@torch.no_grad()
def predict(
    model: TransitionModel, dataset: OfflineDataset, rows: Tensor, penalties: Mapping[str, Penalty]
) -> Predictions:
    """Predict one step of the model from logged states and actions.

    Args:
        model: The ensemble. The elites predict, as in rollouts; all members enter u, as in training.
        dataset: The log.
        rows: Indices of rows whose next state is known [n].
        penalties: Penalty functions, by name.

    """
    log, elites = LogStatistics.of(dataset), model.elites.to("cpu")
    means, stds, uncertainties = [], [], {name: [] for name in penalties}
    for chunk in rows.split(CHUNK):
        part = dataset.transitions[chunk]
        mean, std = model.predict(part.inputs)
        acted = log.in_log_units(part.actions)
        for name, penalty in penalties.items():
            u = evaluate(penalty, mean, std, extras_of(penalty), observations=part.observations, actions=acted, log=log)
            uncertainties[name].append(u.double())
        mean, std = mean.double(), std.double()  # only now: penalties receive the same precision as in training
        variance = std[elites].square().mean(0) + mean[elites].var(0, unbiased=False)
        means.append(mean[elites].mean(0))
        stds.append(variance.sqrt())
    known_rows = dataset.transitions[dataset.next_known]
    return Predictions(
        target=model_target(dataset.transitions[rows]).double(),
        mean=torch.cat(means),
        std=torch.cat(stds),
        spread=model_target(known_rows).double().std(0, correction=0),
        penalties={name: torch.cat(parts) for name, parts in uncertainties.items()},
    )


@dataclass(frozen=True, kw_only=True)
class ColumnError:
    """Error of one target and quality of its σ.

    The scale factors are fitted on one half of the rows and the coverages are measured on the other.
    """

    name: str
    rmse: float
    """Root of the mean squared error over all rows, in the column's unit."""
    relative: float
    """`rmse` in standard deviations of the target: 1 is no better than always predicting the target's mean."""
    factor: float
    """z-scale of σ: above 1 where σ is too small."""
    coverage: float
    """Coverage of the 90 % interval μ ± 1.645σ."""
    scaled_coverage: float
    """Coverage of the same interval with σ times `factor`."""
    conformal_coverage: float
    """Coverage of the split-conformal 90 % interval."""
    conformal_width: float | None
    """Mean half width of the conformal interval, in the column's unit; None where there are too few rows for one."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Measures of how well the u of a penalty orders rows by their true error."""

    name: str
    spearman: float | None
    """Rank correlation of u with ‖e‖₂ in the log's units, the quantity that u is meant to bound; None where u is constant."""
    auroc: float | None
    """Probability that u is larger on one of the worst 10 % of the rows than on another row; 0.5 is chance. None where u is constant."""
    standardised_spearman: float | None
    """As `spearman`, with errors in standard deviations of each target, so that every column has the same weight."""
    standardised_auroc: float | None
    """As `auroc`, with these standardised errors."""
    deciles: list[float]
    """Mean ‖e‖₂ of each tenth of the rows, ordered by u; empty where u is constant."""


@dataclass(frozen=True, kw_only=True)
class OneStep:
    """Summary of the one-step errors on n held-out rows."""

    rows: int
    columns: list[ColumnError]
    constant: list[str]
    """Names of the targets that never vary in the log and are left out."""
    levels: list[float]
    """Probabilities of the central intervals."""
    coverage: list[float]
    """Share of errors within each interval, over all columns and the half of the rows that is judged."""
    scaled_coverage: list[float]
    """As `coverage`, with σ times the z-scale."""
    log_likelihood: float
    """Mean log-likelihood of a row of the judged half [nats]."""
    scaled_log_likelihood: float
    rankings: list[Ranking]


def one_step(predicted: Predictions, names: Sequence[str], *, seed: int) -> OneStep:
    """Summarise one-step predictions.

    Args:
        predicted: Predictions for at least 2 rows.
        names: Names of the T targets.
        seed: Seed of the random split into the half on which factors are fitted and the half on which they are judged.

    """
    varying = (predicted.spread > 0).nonzero().squeeze(-1)
    # A constant target has σ = 0; its remaining error is rounding.
    errors, std, spread = predicted.errors[:, varying], predicted.std[:, varying], predicted.spread[varying]
    std = std.clamp(min=1e-12)
    order = torch.randperm(len(errors), generator=generator_for(seed, "calibration halves"))
    fitted, judged = order.tensor_split(2)
    factor = z_scale(errors[fitted], std[fitted])
    e, raw, scaled = errors[judged], std[judged], std[judged] * factor
    reach = conformal_factor(errors[fitted], std[fitted], LEVEL)
    covered = (e.abs() <= reach * raw).double().mean(0)
    width = reach * raw.mean(0)
    rmse = errors.square().mean(0).sqrt()
    told = zip(
        [names[int(i)] for i in varying],
        *(
            values.tolist()
            for values in (
                rmse,
                rmse / spread,
                factor,
                normal_coverage(e, raw, LEVEL),
                normal_coverage(e, scaled, LEVEL),
                covered,
                width,
            )
        ),
        strict=True,
    )
    return OneStep(
        rows=len(errors),
        columns=[
            ColumnError(
                name=name,
                rmse=error,
                relative=relative,
                factor=scale,
                coverage=before,
                scaled_coverage=after,
                conformal_coverage=conformal,
                conformal_width=half if half < torch.inf else None,
            )
            for name, error, relative, scale, before, after, conformal, half in told
        ],
        constant=[name for name, each in zip(names, predicted.spread, strict=True) if each == 0],
        levels=list(LEVELS),
        coverage=[float(normal_coverage(e, raw, level).mean()) for level in LEVELS],
        scaled_coverage=[float(normal_coverage(e, scaled, level).mean()) for level in LEVELS],
        log_likelihood=log_likelihood(e, raw),
        scaled_log_likelihood=log_likelihood(e, scaled),
        rankings=[_ranking(name, u, errors, spread) for name, u in predicted.penalties.items()],
    )


def _ranking(name: str, u: Tensor, errors: Tensor, spread: Tensor) -> Ranking:
    """Measure how well u [n] orders rows by `errors` [n, T]; `spread` [T] is the standard deviation of each target that varies."""
    size, standardised = errors.norm(dim=-1), (errors / spread).norm(dim=-1)
    constant = bool((u == u[0]).all())
    return Ranking(
        name=name,
        spearman=spearman(u, size),
        auroc=None if constant else worst_auroc(u, size, WORST),
        standardised_spearman=spearman(u, standardised),
        standardised_auroc=None if constant else worst_auroc(u, standardised, WORST),
        deciles=[] if constant else by_decile(u, size),
    )


def sampled_episodes(dataset: OfflineDataset, *, rows: int, seed: int) -> Tensor:
    """Return indices [n] of rows with a known next state from randomly drawn episodes.

    Whole episodes are drawn until there are `rows` such rows, or none is left. The result is then cut to the first `rows`.
    """
    ends = dataset.episode_ends
    begins = torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]])
    taken: list[Tensor] = []
    count = 0
    for episode in torch.randperm(len(ends), generator=generator_for(seed, "sampled episodes")).tolist():
        span = torch.arange(int(begins[episode]), int(ends[episode]))
        taken.append(span[dataset.next_known[span]])
        count += len(taken[-1])
        if count >= rows:
            break
    return torch.cat(taken)[:rows] if taken else torch.empty(0, dtype=torch.int64)


def target_names(log: Transitions, columns: Sequence[str]) -> list[str]:
    """Return the names of the T targets, given the names of the D observation columns."""
    return ["reward", *(f"Δ {name}" for name in columns[: log.newest_dim])]
