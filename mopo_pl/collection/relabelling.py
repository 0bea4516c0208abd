"""The command `relabel`: replace the rewards of a collected log by those of a task for which the behaviour was not trained."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mopo_pl.collection.online import episode_returns
from mopo_pl.collection.writing import refuse_target, write_log
from mopo_pl.config.schema import DataConfig
from mopo_pl.data.log.opening import examine, read
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.distributed.console import print_once
from mopo_pl.environments.out_of_distribution import angle_reward, jump_reward
from mopo_pl.errors import InputError
from mopo_pl.run.files.result import git_commit, versions


@dataclass(frozen=True)
class Task:
    """A task, with the function that computes its rewards for a log that was collected with the behaviour's reward."""

    env_id: str
    rewards: Callable[[RawLog], np.ndarray]
    """Function that returns the rewards [N] of a log."""
    infos: tuple[str, ...] = ()
    """Names of the infos that the reward needs."""


def _jump(log: RawLog) -> np.ndarray:
    assert log.next_observations is not None
    return log.rewards + jump_reward(log.next_observations[:, 0])


def _angle(log: RawLog) -> np.ndarray:
    x, y = log.infos["x_velocity"], log.infos["y_velocity"]
    return log.rewards - x + angle_reward(x, y)


TASKS = {
    "halfcheetah-jump": Task("mopo_pl/HalfCheetahJump-v0", _jump),
    "ant-angle": Task("mopo_pl/AntAngle-v0", _angle, ("x_velocity", "y_velocity")),
}


def relabel(source: str, out: str, name: str, command: str) -> int:
    """Write a log with the rewards of a task; return the exit code.

    Raises InputError if the log was not collected with the behaviour's reward, or lacks arrays that the task's reward needs.

    Args:
        source: The log, as a value of `dataset=`.
        out: File or Minari id to write.
        name: Name of the task in `TASKS`.
        command: The command line, for the metadata.

    """
    refuse_target(out)
    task, log = TASKS[name], read(source, DataConfig())
    if log.env_id != task.env_id or log.env_kwargs.get("reward") != "behaviour":
        raise InputError(f"{source} was not collected in {task.env_id} with env_kwargs.reward=behaviour")
    missing = [info for info in task.infos if info not in log.infos]
    if log.next_observations is None or log.timeouts is None or missing:
        lacks = missing or ["next observations and time limits"]
        raise InputError(f"{source} has no {', '.join(lacks)}, of which the reward of {name} is computed")
    before, _ = examine(name=source, data=DataConfig(), env_id=None, env_kwargs={})
    assert before is not None
    fields = {
        "observations": log.observations,
        "actions": log.actions,
        "next_observations": log.next_observations,
        "rewards": task.rewards(log).astype(np.float32),
        "terminals": np.asarray(log.terminals, bool),
        "timeouts": np.asarray(log.timeouts, bool),
    }
    returns = episode_returns(fields)
    kwargs = {key: value for key, value in log.env_kwargs.items() if key != "reward"}
    summary = {key: float(getattr(np, key)(returns)) for key in ("mean", "std", "min", "max")} if len(returns) else {}
    metadata = {
        "command": command,
        "env_id": task.env_id,
        "env_kwargs": kwargs,
        "policy": f"as {Path(source).name}, relabelled",
        "source": {"name": source, "sha256": before.hash},
        "steps": len(fields["rewards"]),
        "episodes": len(returns),
        "returns": summary,
        "reference_returns": None,
        "versions": versions(),
        "git_commit": git_commit(),
    }
    digest = write_log(out, fields, log.infos, metadata)
    said = f", mean return {summary['mean']:.1f}, best {summary['max']:.1f}" if summary else ", no episode ended"
    print_once(f"log      {out}: {len(fields['rewards'])} steps, {len(returns)} episodes{said}")
    print_once(f"sha256   {digest}")
    return 0
