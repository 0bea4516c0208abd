"""What the signs of health say of runs whose returns are known: false and missed alarms.

    python benchmarks/health.py RUN [RUN …] [--after UPDATES]

A run is good where the mean of its last ten evaluations is at least the log's mean return. Its rows are judged as the run itself
judges them, epoch by epoch; the environment's returns are left out, as where there is no simulator.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from mopo_pl import assembly
from mopo_pl.config.compose import config_from_file
from mopo_pl.config.schema import Config
from mopo_pl.diagnostics.health.judging import PERSISTS, signs_in
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.files.metrics_file import MetricsFile

SETTINGS = (
    "dataset",
    "data",
    "env_id",
    "env_kwargs",
    "reward",
    "rollout.real_ratio",
    "sac.discount",
    "sac.target_entropy",
    "sac.alpha_max",
    "sac.deterministic_backup",
    "health.after",
)
"""What `run_facts` and `judged` read; the rest of config.yaml may be that of another version."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--after", type=int, default=None, help="updates before which nothing is judged")
    given = parser.parse_args()
    print("| run | updates | log | policy | signs at the end | signs before |\n|---|---|---|---|---|---|")
    for path in given.runs:
        for line in judged(RunFolder(path), given.after):
            print(line, flush=True)


def judged(folder: RunFolder, after: int | None) -> Iterator[str]:
    """The line of one run; none where it is too short to be judged."""
    rows = [dict(row) for row in MetricsFile(folder.metrics, stage="policy").rows()]
    config = settings_of(folder)
    after = config.health.after if after is None else after
    if sum(row["update"] > after for row in rows) < PERSISTS:
        return
    facts = assembly.run_facts(
        config.sac,
        assembly.open_log(config),
        real_ratio=config.rollout.real_ratio,
        known_reward=config.reward is not None,
    )
    returns = [value for row in rows if (value := row.pop("evaluation/return", None)) is not None][-10:]
    told = [
        {f"{sign.name} ({sign.level})" for sign in signs_in(rows[:n], facts, after=after)}
        for n in range(1, len(rows) + 1)
    ]
    before = set().union(*told) - told[-1]
    mean = f"{np.mean(returns):.0f}" if returns else "none"
    good = "" if not returns else " good" if np.mean(returns) >= facts.behaviour_return else " bad"
    cells = [folder.path.name, rows[-1]["update"], f"{facts.behaviour_return:.0f}", mean + good]
    yield (
        "| "
        + " | ".join([*map(str, cells), ", ".join(sorted(told[-1])) or "none", ", ".join(sorted(before)) or "none"])
        + " |"
    )


def settings_of(folder: RunFolder) -> Config:
    """The run's configuration as far as the facts need it."""
    stored, kept = OmegaConf.load(folder.config), OmegaConf.create()
    absent = object()
    for key in SETTINGS:
        value = OmegaConf.select(stored, key, default=absent)
        if value is not absent:  # an earlier version had no such key
            OmegaConf.update(kept, key, value)
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        OmegaConf.save(kept, file.name)
        return config_from_file(Path(file.name))


if __name__ == "__main__":
    main()
