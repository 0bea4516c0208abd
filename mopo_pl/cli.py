"""The command line: `python train.py …`, which is also `python -m mopo_pl train …`."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mopo_pl.config.compose import compose, to_yaml
from mopo_pl.config.schema import Config
from mopo_pl.errors import Diverged, InputError, PeerLost, RanksDiffer, Unwritable

OPTIONS = ("--help", "-h", "--print-config", "--dry-run")
FAILED = 1
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the arguments say; returns the exit code: 0, 1 for training that failed, 2 for wrong input, 128 + signal when interrupted.

    Torch and Lightning are imported only where something is opened or trained, so that help answers at once.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = [argument for argument in arguments if argument in OPTIONS]
    try:
        return _act(options, [argument for argument in arguments if argument not in OPTIONS])
    except InputError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2
    except (Diverged, Unwritable, PeerLost, RanksDiffer) as error:
        print(f"error: {error}; the last checkpoint is kept", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _act(options: list[str], arguments: list[str]) -> int:
    if "--help" in options or "-h" in options:
        from mopo_pl.config.help import help_text

        show(help_text())
        return 0
    config = compose(arguments)
    if "--print-config" in options:
        show(to_yaml(config).rstrip())
        return 0
    if "--dry-run" in options:
        from mopo_pl.run.plan import plan

        show("\n\n".join(plan(single) for single in each_seed(config)))
        return 0
    from mopo_pl.run.seeds import run_all

    return run_all(arguments, each_seed(config))


def show(text: str) -> None:
    """Prints; a reader that leaves early (`--help | head`) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes once more at its end, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def each_seed(config: Config) -> list[Config]:
    """One configuration for each seed, with a run folder of its own."""
    if not isinstance(config.seed, list):
        return [config]
    return [replace(config, seed=seed, run_dir=_folder_of_seed(config.run_dir, seed)) for seed in config.seed]


def _folder_of_seed(run_dir: str | None, seed: int) -> str | None:
    return None if run_dir is None else str(Path(run_dir).with_name(f"{Path(run_dir).name}_s{seed}"))
