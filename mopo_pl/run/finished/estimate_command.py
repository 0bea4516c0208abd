"""Write `estimates.json` into a run folder, for the command `python -m mopo_pl estimate RUN` and at the end of a run."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mopo_pl.assembly.policy import actor_class
from mopo_pl.config.compose import config_from_file
from mopo_pl.config.foreign import OF_A_FINISHED_RUN, REPEAT, TRUST, is_trusted, refuse_named_code
from mopo_pl.config.keys import is_within
from mopo_pl.config.schema import Config
from mopo_pl.distributed.console import parts
from mopo_pl.errors import InputError
from mopo_pl.policy.policy import Policy, refuse_another_shape
from mopo_pl.run.finished.estimates import PARTS, estimates_of
from mopo_pl.run.preparation.inputs import Inputs, open_inputs
from mopo_pl.storage.atomic_write import atomic_write, refuse_unwritable
from mopo_pl.storage.run_records import ESTIMATES, ensemble_folder, policy_checksum, read_result


def configuration_of(run: Path, settings: Sequence[str]) -> Config:
    """Return the configuration of a run, with the folder of its ensemble in `dynamics_from` and without its callbacks.

    Code, files and addresses that it names are accepted only if `settings` (key=value) repeat them or contain `trust=true`. Raises
    InputError if one is not accepted, for other settings, and for a run without a policy or an ensemble.
    """
    foreign = [
        key
        for setting in settings
        if not is_within(key := setting.partition("=")[0], (*OF_A_FINISHED_RUN, TRUST)) or "=" not in setting
    ]
    if foreign:
        allowed = ", ".join((*OF_A_FINISHED_RUN, TRUST))
        form = "" if all("=" in setting for setting in settings) else ", as key=value"
        raise InputError(f"{', '.join(foreign)}: only {allowed} may be given to estimate{form}")
    config = config_from_file(run / "config.yaml")
    refuse_named_code(
        run / "config.yaml",
        config,
        trust=is_trusted(settings),
        repeated=settings,
        within=OF_A_FINISHED_RUN,
        remedy=REPEAT,
    )
    if config.stage == "dynamics":
        raise InputError(f"{run} holds no policy: it is a run of stage=dynamics; give a run that trained one")
    if not config.uses_model:
        raise InputError(
            f"{run} was trained without an ensemble, in which its policy could be estimated: give a run with algorithm=sac and "
            "rollout.real_ratio below 1"
        )
    return replace(config, dynamics_from=str(ensemble_folder(run)), resume=None, callbacks=[])


def estimate_run(run: Path, *, seed: int, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Estimate the policy of a run folder, write `estimates.json` into the folder, and return its content.

    Raises InputError as `configuration_of` and `open_inputs` do, and if the policy does not fit the log.
    """
    config = configuration_of(run, settings)
    refuse_unwritable(run)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    policy = Policy.load(run, actor=actor_class(config.sac.actor))
    inputs = open_inputs(config)
    refuse_another_shape(policy, inputs.dataset.obs_dim, inputs.dataset.action_dim, run)
    return write_estimates(run, config, inputs, policy, seed=seed)


def write_estimates(run: Path, config: Config, inputs: Inputs, policy: Policy, *, seed: int) -> dict[str, Any]:
    """Estimate a policy, write `estimates.json` into its run folder atomically, and return its content.

    The true return and the health are read from the `result.json` in the folder, if there is one.
    """
    result = read_result(run) or {}
    with parts("estimate", PARTS) as begin:
        found = estimates_of(
            config,
            inputs,
            policy,
            seed=seed,
            true_return=result.get("final_return"),
            health=result.get("health"),
            begin=begin,
        )
    found["policy_sha256"] = policy_checksum(run)
    with atomic_write(run / ESTIMATES) as aside:
        aside.write_text(json.dumps(found, indent=1) + "\n")
    return found
