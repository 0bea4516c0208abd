"""`python -m mopo_pl evaluate RUN`: scores a finished run again."""

from pathlib import Path

from mopo_pl.data.scores import normalised_score
from mopo_pl.evaluation import evaluate
from mopo_pl.policy import Policy
from mopo_pl.problems import InputError


def evaluate_run(folder: Path, episodes: int, seed: int) -> int:
    """Prints mean, spread and score of deterministic episodes; raises InputError where the run has no environment."""
    policy = Policy.load(folder)
    env_id = policy.meta.get("env_id")
    if env_id is None:
        raise InputError(f"{folder} was trained without env_id: there is no environment to evaluate in")
    result = evaluate(policy, env_id=env_id, env_kwargs=policy.meta["env_kwargs"], numbers=range(episodes), seed=seed)
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
