"""The command `sweep`: its arguments and its call."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from mopo_pl.errors import InputError


def add_sweep(commands: Any) -> None:
    """Add `sweep` to the subparsers of `python -m mopo_pl`."""
    sweep = commands.add_parser(
        "sweep", help="train a run for each combination of settings, or search; the same command continues a killed one"
    )
    sweep.add_argument(
        "settings",
        nargs="*",
        default=[],
        help="as for train, with several values parted by commas: penalty.coef=0.5,2.5 rollout.horizon=5,20 seed=0,1,2; with "
        "--search, ranges ('penalty.coef=0.1..10 (log)'), objective=return or estimate, storage=journal:FILE or a database's URL",
    )
    sweep.add_argument("--folder", type=Path, help="where the runs go (default: one in runs/sweeps for these settings)")
    sweep.add_argument("--at-once", type=int, help="runs that train at the same time (default: as the cores allow)")
    sweep.add_argument("--search", type=int, metavar="N", help="train N trials that Optuna chooses, instead of a grid")
    sweep.add_argument("--dry-run", action="store_true", help="list the runs and exit")
    sweep.set_defaults(act=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    from mopo_pl.sweep.command import Request, sweep_grid
    from mopo_pl.sweep.search import search

    for name in ("at_once", "search"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(options, name)} must be at least 1")
    command = shlex.join(["python", "-m", "mopo_pl", *options.arguments])
    folder = None if options.folder is None else options.folder.expanduser()
    request = Request(command, folder, options.at_once, options.dry_run)
    if options.search is None:
        return sweep_grid(options.settings, request)
    return search(options.settings, options.search, request)
