"""Groups of runs by log, environment and the settings in which they differ, with the statistics of each group."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mopo_pl.comparison.finished_run import FinishedRun
from mopo_pl.comparison.statistics import RESAMPLES_OF_PAIRS, interquartile_mean, interval, probability_of_improvement
from mopo_pl.environments.scores import normalised_score

MANY_KEYS = 3
"""Number of keys up to which the keys that a preset decides are named in the label instead of the preset."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over the runs of a setting."""

    mean: float
    std: float | None
    """Standard deviation; None for a single run."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Compute the mean, and the standard deviation with n in the denominator, as elsewhere in the project."""
        return cls(float(np.mean(values)), float(np.std(values)) if len(values) > 1 else None)


@dataclass(frozen=True)
class Setting:
    """Runs on one log that differ only in their seed."""

    label: str
    runs: tuple[FinishedRun, ...]

    @property
    def returns(self) -> np.ndarray:
        """Return the final return of each run, float64 [n]."""
        return np.array([run.final for run in self.runs])

    @property
    def last(self) -> Spread:
        """Return mean and standard deviation of the final returns."""
        return Spread.of([run.final for run in self.runs])

    @property
    def last10(self) -> Spread | None:
        """Return mean and standard deviation of the runs' means of their last ten evaluations; None where a run has none."""
        return _of_all([run.last10 for run in self.runs])

    @property
    def best(self) -> Spread | None:
        """Return mean and standard deviation of the runs' highest evaluations; None where a run has none."""
        return _of_all([run.best for run in self.runs])

    @property
    def iqm(self) -> float:
        """Return the interquartile mean of the final returns."""
        return float(interquartile_mean(self.returns))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the confidence interval of the IQM; None for a single run."""
        return interval(interquartile_mean, [self.returns])

    @property
    def score(self) -> float | None:
        """Return the normalised score of the IQM; None where no reference returns are known."""
        return normalised_score(self.runs[0].env_id, self.iqm)

    @property
    def seconds(self) -> float:
        """Return the mean duration of a run's stages [s]."""
        return float(np.mean([run.seconds for run in self.runs]))

    @property
    def shares_an_ensemble(self) -> bool:
        """Return whether at least two runs were given the same ensemble."""
        given = [run.ensemble for run in self.runs if run.ensemble is not None]
        return len(set(given)) < len(given)


def _of_all(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread.of(known) if len(known) == len(values) else None


@dataclass(frozen=True)
class Block:
    """Settings of one log and one environment, the highest IQM first."""

    log: tuple[str, str]
    environment: str
    settings: tuple[Setting, ...]

    @property
    def of_the_log(self) -> float:
        """Return the mean return of the log."""
        return self.settings[0].runs[0].of_the_log

    def improvement(self, first: int, second: int) -> tuple[float, tuple[float, float] | None]:
        """Return P(a run of the first setting beats one of the second), with its confidence interval."""
        ours, theirs = self.settings[first].returns, self.settings[second].returns
        return (
            float(probability_of_improvement(ours, theirs)),
            interval(probability_of_improvement, [ours], [theirs], resamples=RESAMPLES_OF_PAIRS),
        )


@dataclass(frozen=True)
class Overall:
    """Normalised scores of one setting over several logs."""

    label: str
    scores: tuple[np.ndarray, ...]
    """Scores of the runs of each log."""

    @property
    def iqm(self) -> float:
        """Return the interquartile mean over all runs of all logs."""
        return float(interquartile_mean(np.concatenate(self.scores)))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the confidence interval of the IQM, resampled within each log."""
        return interval(interquartile_mean, list(self.scores))


def blocks_of(runs: Sequence[FinishedRun]) -> list[Block]:
    """Group the runs by log and environment, and then by a label that names the keys that differ between runs of one group."""
    apart: dict[tuple[str, str], list[FinishedRun]] = {}
    for run in runs:
        apart.setdefault((run.log[1], run.environment), []).append(run)
    keys = {key: None for together in apart.values() for key in _differing(together)}
    labels = _labels(runs, list(keys))
    return [Block(together[0].log, together[0].environment, _settings(together, labels)) for together in apart.values()]


def _differing(runs: Sequence[FinishedRun]) -> list[str]:
    keys = {key: None for run in runs for key in run.settings}
    return [key for key in keys if len({run.settings.get(key) for run in runs}) > 1]


def _labels(runs: Sequence[FinishedRun], keys: Sequence[str]) -> Mapping[int, str]:
    """Return the label of each run, by its id. A preset stands for the keys that depend on it alone, if these are many."""
    of_presets: dict[str, list[FinishedRun]] = {}
    for run in runs:
        of_presets.setdefault(run.preset, []).append(run)
    within = {key for together in of_presets.values() for key in _differing(together)}
    decided = [key for key in keys if key not in within]
    named = len(of_presets) > 1 and len(decided) > MANY_KEYS
    shown = [key for key in keys if not (named and key in decided)]

    def label(run: FinishedRun) -> str:
        parts = [f"preset={run.preset}"] if named else []
        parts += [f"{key}={run.settings.get(key, 'not known')}" for key in shown]
        return ", ".join(parts) or "all runs"

    return {id(run): label(run) for run in runs}


def _settings(runs: Iterable[FinishedRun], labels: Mapping[int, str]) -> tuple[Setting, ...]:
    grouped: dict[str, list[FinishedRun]] = {}
    for run in runs:
        grouped.setdefault(labels[id(run)], []).append(run)
    settings = [Setting(label, tuple(sorted(same, key=lambda run: run.seed))) for label, same in grouped.items()]
    return tuple(sorted(settings, key=lambda setting: -setting.iqm))


def over_all_logs(blocks: Sequence[Block]) -> list[Overall]:
    """Return the settings that were trained on every log, by scores; empty for a single log, or where a log has no reference returns."""
    if len(blocks) < 2 or any(normalised_score(block.settings[0].runs[0].env_id, 0.0) is None for block in blocks):
        return []
    by_label = [{setting.label: setting for setting in block.settings} for block in blocks]
    found = [
        Overall(label, tuple(_scores(settings[label]) for settings in by_label))
        for label in by_label[0]
        if all(label in settings for settings in by_label)
    ]
    return sorted(found, key=lambda overall: -overall.iqm)


def _scores(setting: Setting) -> np.ndarray:
    """Return the normalised score of each run, float64 [n]."""
    return np.array([normalised_score(run.env_id, run.final) for run in setting.runs], dtype=float)
