"""The commands `collect` and `relabel`: their arguments and their calls."""

import argparse
import shlex
from pathlib import Path
from typing import Any

LEVELS = ("random", "medium", "medium-replay", "medium-expert", "expert")
"""Levels of logs, as D4RL defines them (Fu et al. 2020, arXiv:2004.07219, section 5)."""
TASKS = ("halfcheetah-jump", "ant-angle")
"""Names in `collection.relabelling.TASKS`, repeated here so that torch is not imported (a test compares them)."""


def add_collect(commands: Any) -> None:
    """Add `collect` to the subparsers of `python -m mopo_pl`."""
    collect = commands.add_parser(
        "collect", help="collect a log in an environment; the same command resumes a killed one"
    )
    collect.add_argument("env_id", help="Gymnasium id")
    collect.add_argument("out", help="what is written: a file ending in .hdf5 or .npz, or a Minari id ending in -v0")
    collect.add_argument(
        "settings", nargs="*", default=[], help="key=value: seed, sac.*, evaluation.*, env_kwargs.*, threads"
    )
    collect.add_argument(
        "--policy",
        help="random, sac (learns there), module:function of the observation, or a run folder (default: random)",
    )
    collect.add_argument("--level", choices=LEVELS, help="of soft actor-critic's policies, as D4RL defines it")
    collect.add_argument("--steps", type=int, help="rows of the log (default: 1000000)")
    collect.add_argument("--train-steps", type=int, default=1_000_000, help="steps of learning (default: %(default)s)")
    collect.add_argument("--start-steps", type=int, default=5000, help="random steps before it (default: %(default)s)")
    collect.add_argument("--medium-return", type=float, help="return of a medium policy (default: a third of the way)")
    collect.add_argument("--noise", type=float, default=0.0, help="added to actions, in half their range (default: 0)")
    collect.add_argument("--seed", type=int, default=0, help="seed (default: %(default)s)")
    collect.add_argument("--folder", type=Path, help="what a killed collection leaves (default: runs/collected/<name>)")
    collect.set_defaults(act=_collect)


def add_relabel(commands: Any) -> None:
    """Add `relabel` to the subparsers of `python -m mopo_pl`."""
    relabel = commands.add_parser("relabel", help="write a collected log with the reward of another task")
    relabel.add_argument("source", help="as dataset= of train.py")
    relabel.add_argument("out", help="what is written: a file ending in .hdf5 or .npz, or a Minari id ending in -v0")
    relabel.add_argument("--reward", choices=TASKS, required=True, help="the task (docs/data.md)")
    relabel.set_defaults(act=_relabel)


def _collect(options: argparse.Namespace) -> int:
    from mopo_pl.collection.command import Collection, collect

    learns = options.level not in (None, "random")
    collection = Collection(
        env_id=options.env_id,
        out=options.out,
        policy=options.policy or ("sac" if learns else "random"),
        level=options.level,
        steps=options.steps if options.steps is not None or options.level == "medium-replay" else 1_000_000,
        train_steps=options.train_steps,
        start_steps=options.start_steps,
        medium_return=options.medium_return,
        noise=options.noise,
        settings=(f"seed={options.seed}", *options.settings),
        command=shlex.join(["python", "-m", "mopo_pl", *options.arguments]),
    )
    return collect(collection, options.folder)


def _relabel(options: argparse.Namespace) -> int:
    from mopo_pl.collection.relabelling import relabel

    command = shlex.join(["python", "-m", "mopo_pl", *options.arguments])
    return relabel(options.source, options.out, options.reward, command)
