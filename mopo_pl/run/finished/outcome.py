"""The steps after the stages of a run: the final evaluation, or estimates without an environment, and the report."""

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from mopo_pl.assembly.callbacks import evaluation_seed
from mopo_pl.assembly.policy import actor_class
from mopo_pl.config.schema import Config
from mopo_pl.distributed.console import print_once
from mopo_pl.dynamics.model import load_model
from mopo_pl.dynamics.terminals.rule import load_rule
from mopo_pl.environments.episodes import Episodes, evaluate
from mopo_pl.policy import Policy
from mopo_pl.report.command import report_at_end
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.finished.estimate_command import write_estimates
from mopo_pl.run.finished.estimates_text import summary_lines
from mopo_pl.run.preparation.inputs import Inputs
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.storage.run_records import REPORT, is_of_this_policy, read_estimates

FINAL_SEED_OFFSET = 10_000
"""Number added to the seed of the final evaluation, so that its episodes differ from those of the learning curve."""


def final_evaluation(
    folder: RunFolder,
    *,
    episodes: int,
    seed: int,
    actor: Callable[..., TanhGaussianActor],
    before_step: Callable[[], None] = lambda: None,
) -> Episodes:
    """Load the policy from the run folder, as a user would, and evaluate it in the environment that it names."""
    policy = Policy.load(folder.path, actor=actor)
    return evaluate(
        policy,
        env_id=policy.meta["env_id"],
        env_kwargs=policy.meta["env_kwargs"],
        numbers=range(episodes),
        seed=evaluation_seed(seed) + FINAL_SEED_OFFSET,
        before_step=before_step,
    )


def _is_estimated(config: Config, inputs: Inputs) -> bool:
    """Return whether the run ends with estimates of its policy."""
    alone = config.uses_model and inputs.dataset.env_id is None
    return config.estimate and alone and not config.trainer.fast_dev_run


def estimate_at_end(config: Config, inputs: Inputs, folder: RunFolder) -> str:
    """Estimate the policy if there is no environment, write `estimates.json`, and return the lines for the summary.

    Returns "" if the run is not estimated, and one line with the error if the estimation fails.
    """
    if not _is_estimated(config, inputs):
        return ""
    print_once("estimating the policy without an environment (estimate=false leaves it out)")
    try:
        ensemble = Path(config.dynamics_from or folder.path)
        inputs = replace(inputs, model=load_model(ensemble), rule=inputs.rule or load_rule(ensemble))
        policy = Policy.load(folder.path, actor=actor_class(config.sac.actor))
        return summary_lines(write_estimates(folder.path, config, inputs, policy, seed=0))
    except Exception as error:  # the run is finished nevertheless, and its summary must be printed
        again = shlex.join(["python", "-m", "mopo_pl", "estimate", str(folder.path)])
        return f"estimate could not be made ({type(error).__name__}: {error}); try {again}"


def make_up(config: Config, inputs: Inputs, folder: RunFolder, at_exit: ExitStack) -> None:
    """Write the estimates and the report of a finished run that was killed before it had written them.

    Estimates of an earlier policy of the run are replaced.
    """
    there = read_estimates(folder.path)
    estimates = _is_estimated(config, inputs) and (there is None or not is_of_this_policy(folder.path, there))
    report = config.report and not config.trainer.fast_dev_run and not _is_reported(folder)
    if not (estimates or report):
        return
    at_exit.enter_context(folder.locked())
    if estimates:
        print_once(estimate_at_end(config, inputs, folder))
    if report:
        report_at_end(folder.path, inputs.dataset, [])


def _is_reported(folder: RunFolder) -> bool:
    """Return whether the report is newer than the result. A run writes the report after the result."""
    page = folder.path / REPORT
    return page.exists() and page.stat().st_mtime_ns >= folder.result.stat().st_mtime_ns
