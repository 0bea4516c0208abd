"""`python -m mopo_pl train | sweep | compare | evaluate | video | estimate | report | export | serve | push | inspect | collect | relabel | theory`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mopo_pl import cli
from mopo_pl.collection.parser import add_collect, add_relabel
from mopo_pl.comparison.parser import add_compare
from mopo_pl.distributed.streams import forgiving_streams, show
from mopo_pl.errors import Diverged, InputError, Unwritable, printed
from mopo_pl.report.parser import add_report
from mopo_pl.run.finished.parser import add_estimate, add_evaluate, add_export, add_push, add_video
from mopo_pl.run.parser import add_inspect
from mopo_pl.serving.parser import add_serve
from mopo_pl.sweep.parser import add_sweep

THEORY = {"seed": 0, "states": 4, "actions": 3, "discount": 0.9}
"""Defaults of `theory`."""
MOST_STATES, MOST_DISCOUNT = 60, 0.999
"""Limits of `theory`: NumPy supports 64 array dimensions, and float64 becomes inaccurate for γ close to 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code.

    0; 1 where a command failed, or a file could not be written; 2 for wrong input; 3 where `inspect` finds that a log must not be
    trained on; 130 for Ctrl-C, 128 + the number of another signal; or that of `train`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:
        return cli.main(arguments[1:])
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes key=value before the first --option alone.
    if rest and (not hasattr(options, "settings") or any(word.startswith("-") or "=" not in word for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.settings = [*options.settings, *rest]
    options.arguments = arguments
    with forgiving_streams():
        return _coded(options)


def _coded(options: argparse.Namespace) -> int:
    try:
        return options.act(options)
    except InputError as error:
        for problem in error.problems:
            print(f"error: {printed(problem)}", file=sys.stderr)
        return 2
    except (Diverged, Unwritable) as error:
        print(f"error: {error}", file=sys.stderr)
        return cli.FAILED
    except (MemoryError, RuntimeError) as error:
        if cli.is_no_name(error):
            return 2
        if not cli.is_lack_of_memory(error):
            raise
        print(f"error: {cli.lack_of_memory(error)}", file=sys.stderr)
        return cli.FAILED
    except OSError as error:
        if not cli.is_no_name(error):
            raise
        return 2
    except KeyboardInterrupt:
        return cli.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mopo_pl")
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser("train", help="train, like python train.py (options: train --help)", add_help=False)
    add_sweep(commands)
    add_compare(commands)
    add_evaluate(commands)
    add_video(commands)
    add_export(commands)
    add_serve(commands)
    add_push(commands)
    add_estimate(commands)
    add_report(commands)
    add_inspect(commands)
    add_collect(commands)
    add_relabel(commands)
    _add_theory(commands)
    return parser


def _add_theory(commands: Any) -> None:
    """Add the command whose part of the project imports nothing else of it, and therefore no parser."""
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


if __name__ == "__main__":
    raise SystemExit(main())
