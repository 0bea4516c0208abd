"""The command `python -m mopo_pl evaluate`: evaluate a run's policy in its environment, or in another one."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from mopo_pl.config.foreign import refuse_named_code
from mopo_pl.config.schema import Config
from mopo_pl.environments.by_id import tried_environment
from mopo_pl.environments.episodes import evaluate
from mopo_pl.environments.scores import normalised_score
from mopo_pl.errors import InputError
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import TanhGaussianActor


def evaluate_run(
    folder: Path,
    episodes: int,
    seed: int,
    actor: Callable[..., TanhGaussianActor] | None,
    *,
    env_id: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> int:
    """Run deterministic episodes, print their mean return, spread and score, and return exit code 0.

    Args:
        folder: Folder of the run.
        episodes: Number of episodes.
        seed: Seed of the first episode.
        actor: Class of the policy network, if it is a user's class.
        env_id: Environment to use instead of the run's, with `env_kwargs` as its only arguments; None: the run's.
        env_kwargs: Arguments of the environment. With the run's environment, they replace the run's arguments; None: the run's arguments, or
            none for another environment.
        trust: Whether the environment that `policy.json` names may come from a Python module, or read files.

    Raises InputError if there is no environment, if it does not fit the policy, and if actions of the policy are not finite.

    """
    policy = Policy.load(folder, actor=actor)
    env_id, env_kwargs, _ = fitting_environment(
        folder, policy, command="evaluate", env_id=env_id, env_kwargs=env_kwargs, trust=trust
    )
    result = evaluate(policy, env_id=env_id, env_kwargs=env_kwargs, numbers=range(episodes), seed=seed)
    lost = int(np.isnan(result.returns).sum())
    if lost:
        raise InputError(f"the policy of {folder} gave actions that are no numbers in {lost} of {episodes} episodes")
    mean = float(result.returns.mean())
    print(f"{env_id}  {episodes} deterministic episodes from seed {seed}")
    print(
        f"return   {mean:.1f} ± {result.returns.std():.1f}  (min {result.returns.min():.1f}, max {result.returns.max():.1f})"
    )
    print(f"length   {result.lengths.mean():.1f}")
    score = normalised_score(env_id, mean)
    if score is not None:
        print(f"score    {score:.1f}")
    return 0


def fitting_environment(
    folder: Path,
    policy: Policy,
    *,
    command: str,
    env_id: str | None,
    env_kwargs: Mapping[str, Any] | None,
    trust: bool,
) -> tuple[str, Mapping[str, Any], gymnasium.Env]:
    """Return id and arguments of the environment that a command uses, and the environment, which was tried and closed.

    `command`: name of the command, for messages. The other arguments and the errors are those of `evaluate_run`.
    """
    if env_id is None:
        env_id = policy.meta.get("env_id")
        stored = policy.meta.get("env_kwargs", {})
        named = Config(env_id=env_id, env_kwargs=stored if env_kwargs is None else {})
        refuse_named_code(folder / "policy" / "policy.json", named, trust=trust)
        env_kwargs = stored if env_kwargs is None else env_kwargs
    if env_id is None:
        raise InputError(
            f"{folder} was trained without env_id: there is no environment to evaluate in; name one, "
            f"python -m mopo_pl {command} {shlex.quote(str(folder))} env_id=NAME"
        )
    env_kwargs = {} if env_kwargs is None else env_kwargs
    environment = tried_environment(env_id, env_kwargs)
    environment.close()
    for what, space, columns in (
        ("observations", environment.observation_space, policy.obs_dim),
        ("actions", environment.action_space, len(policy.action_low)),
    ):
        if space.shape != (columns,):
            raise InputError(
                f"env_id={env_id} has {what} of shape {list(space.shape or ())}, the policy of {folder} has {[columns]}: is it "
                "the right environment, and are env_kwargs missing?"
            )
    return env_id, env_kwargs, environment
