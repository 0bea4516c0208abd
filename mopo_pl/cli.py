"""The command line `python train.py …`, also available as `python -m mopo_pl train …`."""

import errno
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mopo_pl.config.compose import compose, to_yaml
from mopo_pl.config.schema import Config
from mopo_pl.distributed.streams import forgiving_streams, show
from mopo_pl.errors import (
    Diverged,
    InputError,
    PeerLost,
    RanksDiffer,
    Unwritable,
    is_lack_of_memory,
    lack_of_memory,
    printed,
)

OPTIONS = ("--help", "-h", "--print-config", "--dry-run")
FAILED = 1
INTERRUPTED = 130
NO_HOME = "Could not determine home directory"
"""Part of the error message of pathlib for `~name` if there is no such user."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0: success; 1: training failed; 2: wrong input; 128 + number of the signal: stopped by a signal.

    `argv`: arguments without the program's name; None: those of the process. Torch and Lightning are imported only when
    a dataset is opened or trained on, so that `--help` is fast.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = [argument for argument in arguments if argument in OPTIONS]
    with forgiving_streams():
        return _coded(options, arguments)


def _coded(options: list[str], arguments: list[str]) -> int:
    try:
        return _act(options, [argument for argument in arguments if argument not in OPTIONS])
    except InputError as error:
        for problem in error.problems:
            print(f"error: {printed(problem)}", file=sys.stderr)
        return 2
    except (Diverged, Unwritable, PeerLost, RanksDiffer) as error:
        print(f"error: {error}; the last checkpoint is kept", file=sys.stderr)
        return FAILED
    except (MemoryError, RuntimeError) as error:
        if (problem := path_problem(error)) is not None:
            print(f"error: {problem}", file=sys.stderr)
            return 2
        if not is_lack_of_memory(error):
            raise
        print(f"error: {lack_of_memory(error)}; the last checkpoint is kept", file=sys.stderr)
        return FAILED
    except OSError as error:
        if (problem := path_problem(error)) is None:
            raise
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def path_problem(error: OSError | RuntimeError | MemoryError) -> str | None:
    """Return the message about an unknown user after ~ or a too long path; None for other errors.

    pathlib raises these two errors where it returns False for a missing file.
    """
    if NO_HOME in str(error):
        return "a path begins with ~ and the name of a user who is not known here"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{printed(str(error.filename))} is too long for the name of a file"
    return None


def _act(options: list[str], arguments: list[str]) -> int:
    if "--help" in options or "-h" in options:
        from mopo_pl.config.help import help_text

        show(help_text())
        return 0
    config = compose(arguments)
    if "--print-config" in options:
        show(to_yaml(config).rstrip())
        return 0
    from mopo_pl.run.seeds import run_all, runs_at_once

    if "--dry-run" in options:
        from mopo_pl.run.preparation.plan import plan

        runs = each_seed(config)
        show("\n\n".join(plan(single, at_once=runs_at_once(runs)) for single in runs))
        return 0
    return run_all(arguments, each_seed(config))


def each_seed(config: Config) -> list[Config]:
    """Return one configuration per seed of a list, each with a separate run folder.

    >>> [(run.seed, run.run_dir) for run in each_seed(Config(seed=[0, 1], run_dir="runs/a"))]
    [(0, 'runs/a_s0'), (1, 'runs/a_s1')]
    """
    if not isinstance(config.seed, list):
        return [config]
    group = config.group
    if group is None and len(config.seed) > 1:
        group = f"{config.dataset_label}-{datetime.now():%Y%m%d-%H%M%S}"
    return [
        replace(config, seed=seed, run_dir=_folder_of_seed(config.run_dir, seed), group=group) for seed in config.seed
    ]


def _folder_of_seed(run_dir: str | None, seed: int) -> str | None:
    return None if run_dir is None else str(Path(run_dir).with_name(f"{Path(run_dir).name}_s{seed}"))
