"""The command line `python -m mopo_pl COMMAND`.

The commands are train, sweep, compare, evaluate, video, estimate, report, export, serve, push, inspect, collect, relabel and theory.
"""

import argparse
import sys
from collections.abc import Sequence

from mopo_pl import cli
from mopo_pl.collection.parser import add_collect, add_relabel
from mopo_pl.comparison.parser import add_compare
from mopo_pl.distributed.streams import forgiving_streams
from mopo_pl.errors import Diverged, InputError, Unwritable, is_lack_of_memory, lack_of_memory, printed
from mopo_pl.report.parser import add_report
from mopo_pl.run.finished.parser import add_estimate, add_evaluate, add_export, add_push, add_video
from mopo_pl.run.parser import add_inspect
from mopo_pl.serving.parser import add_serve
from mopo_pl.sweep.parser import add_sweep
from mopo_pl.theory.parser import add_theory


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code.

    0: success; 1: the command failed, or a file could not be written; 2: wrong input; 3: `inspect` found that a log must not be trained
    on; 130: Ctrl-C; 128 + number of the signal: stopped by another signal. `train` returns the codes of `mopo_pl.cli.main`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:
        return cli.main(arguments[1:])
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse assigns key=value arguments to `settings` only before the first --option.
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
        if (problem := cli.path_problem(error)) is not None:
            print(f"error: {problem}", file=sys.stderr)
            return 2
        if not is_lack_of_memory(error):
            raise
        print(f"error: {lack_of_memory(error)}", file=sys.stderr)
        return cli.FAILED
    except OSError as error:
        if (problem := cli.path_problem(error)) is None:
            raise
        print(f"error: {problem}", file=sys.stderr)
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
    add_theory(commands)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
