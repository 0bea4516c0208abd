"""The command `python -m mopo_pl collect`: collect a log in an environment."""

import json
import shlex
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mopo_pl.callbacks import Interrupted
from mopo_pl.collection.behaviours import drawn_from, named, noisy, uniform
from mopo_pl.collection.online import SAC_SETTINGS, Learned, episode_returns, train_online
from mopo_pl.collection.recording import record
from mopo_pl.collection.writing import refuse_target, write_log
from mopo_pl.config.compose import compose
from mopo_pl.config.schema import Config
from mopo_pl.distributed.console import print_once
from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.environments.scores import references
from mopo_pl.environments.stepping import StepLayout, SteppedEnvironment
from mopo_pl.errors import InputError
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.files.result import git_commit, versions
from mopo_pl.storage.atomic_write import make_target, refuse_unwritable
from mopo_pl.storage.stored_json import read_json


@dataclass(frozen=True, kw_only=True)
class Collection:
    """The settings of a collection, which `docs/data.md` describes."""

    env_id: str
    out: str
    policy: str
    level: str | None
    steps: int | None
    """Number of rows of the log; None with `medium-replay`, whose log is the complete replay buffer of the medium policy."""
    train_steps: int
    """Number of environment steps from which soft actor-critic learns."""
    start_steps: int
    medium_return: float | None
    noise: float
    settings: tuple[str, ...]
    """Settings `key=value` of the configuration: sac.*, evaluation.*, env_kwargs.*, seed, …"""
    command: str

    def __post_init__(self) -> None:
        problems = []
        if self.level is not None and self.policy not in ("sac", "random" if self.level == "random" else "sac"):
            problems.append(f"--level {self.level} is of --policy sac, not {self.policy}")
        if self.learns and self.level is None and self.steps is not None and self.steps <= self.start_steps:
            problems.append(f"--steps {self.steps} must be more than the {self.start_steps} random --start-steps")
        if self.learns and self.level is not None and self.train_steps <= self.start_steps:
            problems.append(f"--train-steps {self.train_steps} must be more than --start-steps {self.start_steps}")
        if self.medium_return is not None and "medium" not in (self.level or ""):
            problems.append("--medium-return is for the levels medium, medium-replay and medium-expert")
        if self.level == "medium-replay" and self.steps is not None:
            problems.append("--steps is not for medium-replay: its rows are the steps until the policy is medium")
        if self.noise and self.learns:
            problems.append("--noise is not for a policy that learns: its actions are drawn from it")
        for name, value in {"--steps": self.steps, "--train-steps": self.train_steps}.items():
            if value is not None and value < 1:
                problems.append(f"{name} {value} must be at least 1")
        if self.start_steps < 1 or self.noise < 0:
            problems.append(f"--start-steps {self.start_steps} must be at least 1, and --noise {self.noise} at least 0")
        if problems:
            raise InputError(problems)

    @property
    def learns(self) -> bool:
        """Whether soft actor-critic is trained in the environment."""
        return self.policy == "sac" and self.level != "random"

    @property
    def label(self) -> str:
        """Name of the default folder: the name of the file without folder and suffix, or the id with dashes for slashes."""
        path = Path(self.out)
        return path.stem if path.suffix in (".hdf5", ".npz") else self.out.replace("/", "-")


def collect(collection: Collection, folder: Path | None) -> int:
    """Collect and write the log; return the exit code. Raises InputError before anything is collected.

    The same command continues a killed collection, whose files are in `folder`; None: `runs/collected/<label>`.
    """
    refuse_target(collection.out)
    config = _config(collection)
    environment = SteppedEnvironment(collection.env_id, config.env_kwargs, seed=config.seed, purpose="training")
    where = RunFolder(Path("runs") / "collected" / collection.label if folder is None else folder.expanduser())
    refuse_unwritable(where.path, "--folder")
    make_target(where.path, "--folder")
    signals = SignalHandler()
    with ExitStack() as opened:
        opened.enter_context(where.locked())
        opened.callback(environment.close)
        _begin(where, collection, config)
        print_once(f"folder {where.path}")
        try:
            with signals.installed() if collection.learns else ExitStack():
                rows = _rows(collection, config, environment, where, signals)
        except Interrupted as stop:
            print_once(f"{stop}; saved. The same command goes on")
            return stop.code
        _finish(collection, config, environment.layout, rows)
    return 0


def _config(collection: Collection) -> Config:
    config = compose(["dataset=collected-v0", "termination=never", *SAC_SETTINGS, *collection.settings])
    wrong = [
        key for key in ("normalise_observations", "bound_targets", "start_at_log_value") if getattr(config.sac, key)
    ]
    if wrong:
        raise InputError(f"sac.{wrong[0]}=true needs a log, which is only being collected")
    if isinstance(config.seed, list) or config.trainer.devices != 1:
        raise InputError("a log is collected with one seed, by one process")
    return config


def _begin(where: RunFolder, collection: Collection, config: Config) -> None:
    """Write the settings into the folder, or compare them with those in it; raise InputError if the folder has another collection."""
    now = {**asdict(collection), "seed": config.seed}
    del now["command"], now["out"], now["medium_return"]  # these settings do not change the steps
    path, text = where.path / "collection.json", json.dumps(now, indent=2)
    if not path.exists():
        where.write(path, text)
        return
    try:
        then, now = read_json(path), json.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): give another --folder, or remove it") from error
    differing = [f"{key} is {now[key]}, was {then.get(key)}" for key in now if now[key] != then.get(key)]
    if differing:
        raise InputError(
            f"{where.path} has a collection with other settings ({'; '.join(differing)}): give another --folder, or remove it"
        )


def _rows(
    collection: Collection, config: Config, environment: SteppedEnvironment, where: RunFolder, signals: SignalHandler
) -> np.ndarray:
    """Collect the steps of the log, or continue them; return them [N, R]."""
    parts, steps = where.path / "parts", collection.steps or 0
    if not collection.learns:
        behaviour = uniform(environment) if collection.level == "random" else named(collection.policy, environment)
        behaviour = noisy(behaviour, environment, collection.noise)
        return record(environment, behaviour, steps=steps, seed=config.seed, folder=parts, name="steps")
    learned = train_online(
        config,
        environment,
        where,
        signals,
        steps=steps if collection.level is None else collection.train_steps,
        start_steps=collection.start_steps,
        stop_at=collection.medium_return if collection.level in ("medium", "medium-replay") else None,
    )
    if collection.level is None:
        return learned.rows[:steps]
    if collection.level == "medium-replay":
        return learned.rows[: learned.start_steps + learned.medium(collection.medium_return)]
    halves = (
        {"medium": (steps + 1) // 2, "expert": steps // 2}
        if collection.level == "medium-expert"
        else {collection.level: steps}
    )
    recorded = [
        _recorded(learned, collection, config, name, share, parts) for name, share in halves.items() if share > 0
    ]
    return np.concatenate(recorded)


def _recorded(
    learned: Learned, collection: Collection, config: Config, name: str, steps: int, parts: Path
) -> np.ndarray:
    """Record steps with actions drawn from the medium policy if `name` is "medium", else from the final policy; return them [steps, R]."""
    policy = learned.final
    if name == "medium":
        updates = learned.medium(collection.medium_return)
        policy, parts = learned.policy(updates), parts / f"after-{updates}"
    environment = SteppedEnvironment(collection.env_id, config.env_kwargs, seed=config.seed, purpose=name)
    try:
        rows = record(environment, drawn_from(policy), steps=steps, seed=config.seed, folder=parts, name=name)
    finally:
        environment.close()
    if name == "medium" and collection.level == "medium-expert":
        # Mark a time limit: the expert's first state does not follow the medium policy's last one.
        flags = 2 * environment.layout.obs_dim + environment.layout.action_dim + 1
        rows[-1, flags + 1] = max(rows[-1, flags + 1], 1 - rows[-1, flags])
    return rows


def _finish(collection: Collection, config: Config, layout: StepLayout, rows: np.ndarray) -> None:
    fields = layout.fields(rows)
    returns = episode_returns(fields)
    summary = (
        {name: float(getattr(np, name)(returns)) for name in ("mean", "std", "min", "max")} if len(returns) else {}
    )
    known = references(collection.env_id)
    metadata: dict[str, Any] = {
        "command": collection.command,
        "env_id": collection.env_id,
        "env_kwargs": dict(config.env_kwargs),
        "policy": collection.policy,
        "level": collection.level,
        "seed": config.seed,
        "noise": collection.noise,
        "steps": len(rows),
        "episodes": len(returns),
        "returns": summary,
        "reference_returns": None if known is None else list(known),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    digest = write_log(collection.out, fields, layout.infos_of(rows), metadata)
    said = f", mean return {summary['mean']:.1f}" if summary else ", no episode ended"
    print_once(f"log      {collection.out}: {len(rows)} steps, {len(returns)} episodes{said}")
    print_once(f"sha256   {digest}")
    print_once(f"inspect  python -m mopo_pl inspect {shlex.quote(collection.out)}")
