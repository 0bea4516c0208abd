"""The command `theory`: its arguments and its output. This is the only file of the folder that imports other parts of the project."""

import argparse
from pathlib import Path
from typing import Any

from mopo_pl.distributed.streams import show
from mopo_pl.errors import InputError, Unwritable

THEORY = {"seed": 0, "states": 4, "actions": 3, "discount": 0.9}
"""Defaults of `theory`."""
MOST_STATES, MOST_DISCOUNT = 60, 0.999
"""Upper limits of the arguments: NumPy supports 64 array dimensions, and float64 becomes inaccurate for γ close to 1."""


def add_theory(commands: Any) -> None:
    """Add the command to the subparsers of `python -m mopo_pl`."""
    theory = commands.add_parser("theory", help="evaluate the proof behind the penalty on a small random MDP")
    theory.add_argument(
        "--seed", type=int, help=f"seed of the MDP and its inaccurate model (default: {THEORY['seed']})"
    )
    theory.add_argument(
        "--states", type=int, help=f"number of states; at most 20 000 policies (default: {THEORY['states']})"
    )
    theory.add_argument("--actions", type=int, help=f"number of actions (default: {THEORY['actions']})")
    theory.add_argument(
        "--discount", type=float, help=f"discount factor γ in [0, {MOST_DISCOUNT}] (default: {THEORY['discount']})"
    )
    theory.add_argument("--figure", metavar="FOLDER", help="draw two figures into FOLDER instead")
    theory.set_defaults(act=_theory)


def _theory(options: argparse.Namespace) -> int:
    given = {name: value for name in THEORY if (value := getattr(options, name)) is not None}
    if options.figure is not None:
        if given:
            raise InputError(f"--figure draws two fixed examples: remove {', '.join(f'--{name}' for name in given)}")
        return _draw(options.figure)
    from mopo_pl.theory.policies import check_enumerable
    from mopo_pl.theory.report import report

    seed, states, actions, discount = ({**THEORY, **given}[name] for name in THEORY)
    counts = {"--states": states, "--actions": actions}
    problems = [f"{name} {count} must be at least 1" for name, count in counts.items() if count < 1]
    if states > MOST_STATES:
        problems.append(f"--states {states} must be at most {MOST_STATES}")
    if not 0 <= seed < 2**31:
        problems.append(f"--seed {seed} must lie in [0, 2**31)")
    if not 0 <= discount <= MOST_DISCOUNT:
        problems.append(f"--discount {discount} must lie in [0, {MOST_DISCOUNT}]")
    if not problems:
        try:
            check_enumerable(states, actions)
        except ValueError as error:
            problems.append(f"--states {states} --actions {actions}: {error}")
    if problems:
        raise InputError(problems)
    show(report(seed, states, actions, discount))
    return 0


def _draw(name: str) -> int:
    from mopo_pl.storage.atomic_write import make_target, refuse_unwritable
    from mopo_pl.theory.figures import draw

    folder = Path(name).expanduser()
    if not name:
        raise InputError("--figure '' is not a folder")
    refuse_unwritable(folder, "--figure")
    make_target(folder, "--figure")
    try:
        paths = draw(folder)
    except OSError as error:
        raise Unwritable(error.filename or folder, error) from error
    show("\n".join(map(str, paths)))
    return 0
