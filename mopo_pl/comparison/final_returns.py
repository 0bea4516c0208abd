"""Files `final_returns/*.npz` with the returns of each policy, for Unifloral's evaluation (Jackson et al. 2025, arXiv 2504.11453).

A file is named `<algorithm>_<dataset>_<time>.npz` and contains `final_returns` and `final_scores`, with one entry for each episode.
Unifloral treats each policy as an arm of a bandit, and plots the score that a user reaches against the number of episodes in which
policies may be tried. The files contain plain arrays only; nothing is pickled.
"""

import io
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np

from mopo_pl.comparison.finished_run import FinishedRun
from mopo_pl.config.schema import Config
from mopo_pl.environments.scores import normalised_score
from mopo_pl.storage.run_records import RESULT

ALGORITHMS = {"sac": "mopo", "bc": "bc"}
TIME = "%Y-%m-%d_%H-%M-%S"


def returns_files(runs: Sequence[FinishedRun]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the file of each run that kept its episodes. The time in a name is that of the result, made unique."""
    names: set[str] = set()
    for run in runs:
        if run.episodes:
            name = _name(run, names)
            names.add(name)
            written = io.BytesIO()
            np.savez_compressed(written, **_arrays(run))  # type: ignore[arg-type]  # taken for allow_pickle
            yield name, written.getvalue()


def _name(run: FinishedRun, taken: set[str]) -> str:
    algorithm = ALGORITHMS.get(run.settings.get("algorithm", "sac"), "mopo")
    dataset = Config(dataset=run.log[0]).dataset_label
    time = datetime.fromtimestamp(int((run.path / RESULT).stat().st_mtime))
    while (name := f"{algorithm}_{dataset}_{time:{TIME}}.npz") in taken:
        time += timedelta(seconds=1)
    return name


def _arrays(run: FinishedRun) -> dict[str, np.ndarray]:
    """Return returns and scores with mean and deviation, the seed and the settings; without reference returns, scores are the returns."""
    returns = np.array(run.episodes)
    scores = np.array([normalised_score(run.env_id, value) for value in run.episodes], dtype=float)
    if np.isnan(scores).all():
        scores = returns
    of_both = {
        f"{name}{end}": np.asarray(value)
        for name, values in {"final_returns": returns, "final_scores": scores}.items()
        for end, value in {"": values, "_mean": values.mean(), "_std": values.std()}.items()
    }
    return {**of_both, "seed": np.array(run.seed), **{key: np.array(value) for key, value in run.settings.items()}}
