"""Reading of the parts of a run folder that a comparison needs; damaged and incomplete folders are rejected with a reason."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mopo_pl.config.foreign import read_yaml
from mopo_pl.config.keys import WITHOUT_EFFECT, format_value, is_within
from mopo_pl.errors import InputError
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.storage.run_records import read_record, read_result, read_rows
from mopo_pl.sweep import manifest

NOT_COMPARED = (
    *("seed", "seeds", "resume", "stage", "dynamics_from", "preset", "callbacks", "compile"),
    *("dataset", "data.source", "data.d4rl_folder", "env_id", "env_kwargs"),
    *WITHOUT_EFFECT,
)
"""Keys that do not separate settings: they change no result, or are compared separately (log, environment, seed)."""

DAMAGE = (OSError, ValueError, KeyError, TypeError, OverflowError, yaml.YAMLError, OmegaConfBaseException)
"""Exceptions that reading damaged files may raise."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run with a final return."""

    path: Path
    settings: Mapping[str, str]
    """Values of the keys that may separate settings, as text."""
    preset: str
    seed: int
    log: tuple[str, str]
    """Name and hash of the log."""
    environment: str
    """Id and arguments of the environment."""
    env_id: str
    final: float
    """Mean return of the final episodes."""
    episodes: tuple[float, ...]
    """Return of each final episode; empty for runs that were made before these returns were kept."""
    last10: float | None
    curve: tuple[tuple[int, float], ...]
    """(updates, mean return) of each evaluation."""
    of_the_log: float
    """Mean return of the log's episodes."""
    seconds: float
    ensemble: str | None
    """Hash of the ensemble that was given; None where the run trained its ensemble itself, or has none."""

    @property
    def best(self) -> float | None:
        """Return the highest evaluation; None where there is none."""
        return max((value for _, value in self.curve), default=None)


@dataclass(frozen=True)
class Found:
    """The runs of a comparison, and the folders that were left out."""

    runs: tuple[FinishedRun, ...]
    left_out: Mapping[Path, str]
    """Reason for each folder that is left out."""
    tried: int
    """Number of policies that were trained or begun, including those left out."""
    sweep: Path | None
    """Folder of the sweep; None unless a single sweep was given."""


def find(paths: Sequence[Path]) -> Found:
    """Read run folders, folders of sweeps, and folders that contain run folders. Raises InputError where there is nothing to compare."""
    folders: dict[Path, None] = {}
    for path in paths:
        folders |= dict.fromkeys(_runs_in(path))
    runs, left_out = [], {}
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except InputError as error:
            left_out[folder] = str(error)
    if not runs:
        reasons = [f"{folder}: {reason}" for folder, reason in left_out.items()]
        raise InputError(["there is no run to compare", *reasons])
    sweep = paths[0] if len(paths) == 1 and (paths[0] / manifest.FILE).exists() else None
    return Found(tuple(runs), left_out, len(folders), sweep)


def _runs_in(path: Path) -> list[Path]:
    """Return the run folders that a path refers to."""
    path = path.expanduser()
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: give folders of runs, or of a sweep")
    sweep = manifest.read(path)
    if sweep is not None:
        trials = sorted(path.glob("trials/*/*/"), key=lambda run: (len(run.parent.name), run))
        return [path / name for name in sweep.runs] or [run for run in trials if not run.is_symlink()]
    if (path / "config.yaml").exists():
        return [path.resolve()]
    inside = sorted(file.parent for file in path.glob("*/config.yaml"))
    if not inside:
        raise InputError(f"{path} holds no run: there is no config.yaml in it, or in a folder inside it")
    return list({folder.resolve(): None for folder in inside})


def read_run(path: Path) -> FinishedRun:
    """Read a run. Raises InputError with the reason where it is unfinished, damaged, or has no return."""
    folder = RunFolder(path)
    if not folder.result.exists():
        raise InputError("it is not finished" if folder.config.exists() else "it has not begun")
    try:
        result = read_result(path)
        assert result is not None
        config = OmegaConf.to_container(read_yaml(folder.config), resolve=False)
        if not isinstance(config, dict):
            raise ValueError(f"{folder.config.name} is no map of keys")
        final, env_id = result["final_return"], result["env_id"]
        if result["updates"] == 0:
            raise InputError("it trained an ensemble alone")
        if env_id is None:
            raise InputError("it has no return: it was trained without env_id")
        if final is None or not math.isfinite(final):
            raise InputError("its policy gave no numbers")
        return FinishedRun(
            path=path,
            settings=_settings(config),
            preset=str(config.get("preset")),
            seed=int(result["seed"]),
            log=(str(result["dataset"]["name"]), str(result["dataset"]["hash"])),
            environment=f"{env_id} {format_value(config.get('env_kwargs') or {})}".removesuffix(" {}"),
            env_id=env_id,
            final=float(final),
            episodes=tuple(math.nan if value is None else float(value) for value in result.get("final_returns", [])),
            last10=None if result["last10_return"] is None else float(result["last10_return"]),
            curve=tuple(_curve(folder.metrics)),
            of_the_log=float(result["behaviour_return"]),
            seconds=float(sum(filter(None, dict(result["seconds"]).values()))),
            ensemble=_ensemble(folder),
        )
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"its files are damaged ({type(error).__name__}: {' '.join(str(error).split())})") from error


def _curve(file: Path) -> list[tuple[int, float]]:
    return [
        (int(row["update"]), float(row["evaluation/return"]))
        for row in read_rows(file)
        if row.get("evaluation/return") is not None
    ]


def _ensemble(folder: RunFolder) -> str | None:
    if not folder.provenance.exists():
        return None
    given = (read_record(folder.provenance) or {}).get("ensemble")
    return given if isinstance(given, str) else None


def _settings(config: Mapping[Any, Any]) -> dict[str, str]:
    """Return the leaves of a configuration that may separate settings, as text."""
    found = {key: value for key, value in _leaves(config, "") if not is_within(key, NOT_COMPARED)}
    if found.get("sac.schedule_epochs") == found.get("trainer.max_epochs"):
        found["sac.schedule_epochs"] = None  # null was resolved to the stored number
    return {key: format_value(value) for key, value in found.items()}


def _leaves(values: Mapping[Any, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        inside = isinstance(value, dict) and name not in ("termination", "env_kwargs", "logger")
        found += _leaves(value, f"{name}.") if inside else [(name, value)]
    return found
