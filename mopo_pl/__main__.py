"""`python -m mopo_pl train | evaluate | inspect | theory`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mopo_pl import command
from mopo_pl.problems import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:
        return command.main(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        return options.act(options)
    except InputError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return command.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mopo_pl")
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser("train", help="as python train.py (see train --help)", add_help=False)
    evaluate = commands.add_parser("evaluate", help="score the policy of a run again")
    evaluate.add_argument("run", type=Path, help="run folder")
    evaluate.add_argument("--episodes", type=int, default=20, help="deterministic episodes (%(default)s)")
    evaluate.add_argument("--seed", type=int, default=0, help="seed of the first episode (%(default)s)")
    evaluate.set_defaults(act=_evaluate)
    inspect = commands.add_parser("inspect", help="say what a dataset holds")
    inspect.add_argument("dataset", help="as dataset= of train.py")
    inspect.add_argument("settings", nargs="*", help="key=value, such as env_id=Hopper-v5")
    inspect.set_defaults(act=_inspect)
    theory = commands.add_parser("theory", help="the proof behind the penalty, with numbers in it")
    theory.add_argument("--seed", type=int, default=0, help="of the random MDP and its wrong model (%(default)s)")
    theory.add_argument("--states", type=int, default=4, help="of the MDP (%(default)s)")
    theory.add_argument("--actions", type=int, default=3, help="of the MDP (%(default)s)")
    theory.add_argument("--discount", type=float, default=0.9, help="γ in [0, 1) (%(default)s)")
    theory.add_argument("--figure", type=Path, metavar="FOLDER", help="draw the two figures there instead")
    theory.set_defaults(act=_theory)
    return parser


def _evaluate(options: argparse.Namespace) -> int:
    from mopo_pl.run.reevaluation import evaluate_run

    if options.episodes < 1:
        raise InputError(f"--episodes {options.episodes} must be at least 1")
    if not 0 <= options.seed < 2**31:
        raise InputError(f"--seed {options.seed} must lie in [0, 2**31)")
    return evaluate_run(options.run, options.episodes, options.seed)


def _inspect(options: argparse.Namespace) -> int:
    from mopo_pl.assembly import open_log
    from mopo_pl.compose import compose
    from mopo_pl.inspection import describe

    print(describe(open_log(compose([f"dataset={options.dataset}", *options.settings]))))
    return 0


def _theory(options: argparse.Namespace) -> int:
    if options.figure is not None:
        return _draw(options.figure)
    from mopo_pl.theory.report import report

    counts = {"--states": options.states, "--actions": options.actions}
    problems = [f"{name} {count} must be at least 1" for name, count in counts.items() if count < 1]
    if not 0 <= options.seed < 2**31:
        problems.append(f"--seed {options.seed} must lie in [0, 2**31)")
    if not 0 <= options.discount < 1:
        problems.append(f"--discount {options.discount} must lie in [0, 1)")
    if problems:
        raise InputError(problems)
    try:
        print(report(options.seed, options.states, options.actions, options.discount))
    except ValueError as error:
        raise InputError(f"--states {options.states} --actions {options.actions}: {error}") from error
    return 0


def _draw(folder: Path) -> int:
    from mopo_pl.theory.figures import draw

    try:
        paths = draw(folder)
    except ImportError as error:
        raise InputError("--figure needs matplotlib: pip install -c constraints.txt -e '.[figures]'") from error
    except OSError as error:
        raise InputError(f"--figure {folder}: cannot be written ({error.strerror})") from error
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
