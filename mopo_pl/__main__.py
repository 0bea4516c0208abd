"""`python -m mopo_pl train | evaluate | inspect | theory`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mopo_pl import cli
from mopo_pl.errors import InputError

STOPPED = 3
"""Exit code of `inspect` where a log must not be trained on."""
THEORY = {"seed": 0, "states": 4, "actions": 3, "discount": 0.9}
"""Defaults of `theory`."""
MOST_STATES, MOST_DISCOUNT = 60, 0.999
"""Limits of `theory`: NumPy supports 64 array dimensions, and float64 becomes inaccurate for γ close to 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code.

    0; 2 for wrong input; 3 where `inspect` finds that a log must not be trained on; 130 for Ctrl-C; or that of `train`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:
        return cli.main(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        return options.act(options)
    except InputError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return cli.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mopo_pl")
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser("train", help="train, like python train.py (options: train --help)", add_help=False)
    evaluate = commands.add_parser("evaluate", help="evaluate the policy of a run in its environment")
    evaluate.add_argument("run", type=Path, help="run folder")
    evaluate.add_argument("--episodes", type=int, default=20, help="number of episodes (default: %(default)s)")
    evaluate.add_argument("--seed", type=int, default=0, help="seed of the first episode (default: %(default)s)")
    evaluate.add_argument("--actor", metavar="MODULE:CLASS", help="class of the policy network, if it is your own")
    evaluate.set_defaults(act=_evaluate)
    inspect = commands.add_parser(
        "inspect", help="say what a dataset holds, and check it (exit code 3: do not train on it)"
    )
    inspect.add_argument("dataset", help="as dataset= of train.py")
    inspect.add_argument("settings", nargs="*", help="key=value, such as env_id=Hopper-v5")
    inspect.add_argument("--json", action="store_true", help="as one JSON object")
    inspect.set_defaults(act=_inspect)
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
    theory.add_argument("--figure", metavar="FOLDER", help="draw two figures into FOLDER instead (needs matplotlib)")
    theory.set_defaults(act=_theory)
    return parser


def _evaluate(options: argparse.Namespace) -> int:
    from mopo_pl.config.registry import lookup
    from mopo_pl.run.result import evaluate_run

    if options.episodes < 1:
        raise InputError(f"--episodes {options.episodes} must be at least 1")
    if not 0 <= options.seed < 2**31:
        raise InputError(f"--seed {options.seed} must lie in [0, 2**31)")
    try:
        actor = None if options.actor is None else lookup("actor", options.actor, {})
    except ValueError as error:
        raise InputError(f"--actor {options.actor}: {error}") from error
    return evaluate_run(options.run, options.episodes, options.seed, actor)


def _inspect(options: argparse.Namespace) -> int:
    """Print the checks of a log; exit code 3 where one says STOP."""
    from mopo_pl.config.compose import compose
    from mopo_pl.data.doctor.report import as_json, as_text
    from mopo_pl.data.findings import worst
    from mopo_pl.run.inputs import examine_inputs

    config = compose([f"dataset={options.dataset}", *options.settings])
    log = examine_inputs(config, without_rule="WARN")
    told = as_json(config.dataset, log.dataset, log.findings) if options.json else as_text(log.dataset, log.findings)
    cli.show(told)
    return STOPPED if worst(log.findings) == "STOP" else 0


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
    cli.show(report(seed, states, actions, discount))
    return 0


def _draw(name: str) -> int:
    from mopo_pl.theory.figures import draw

    folder = Path(name).expanduser()
    if not name or (folder.exists() and not folder.is_dir()):
        raise InputError(f"--figure '{name}' is not a folder")
    try:
        paths = draw(folder)
    except ImportError as error:
        raise InputError("--figure needs matplotlib: pip install -c constraints.txt -e '.[figures]'") from error
    except OSError as error:
        raise InputError(f"--figure: {error.filename or folder} cannot be written ({error.strerror})") from error
    cli.show("\n".join(map(str, paths)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
