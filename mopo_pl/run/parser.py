"""`inspect` on the command line: its arguments, and the checks of the log that they name."""

import argparse
from typing import Any

from mopo_pl.distributed.streams import show

STOPPED = 3
"""Exit code where a log must not be trained on."""


def add_inspect(commands: Any) -> None:
    """Add the command to the subparsers of `python -m mopo_pl`."""
    inspect = commands.add_parser(
        "inspect", help="say what a dataset holds, and check it (exit code 3: do not train on it)"
    )
    inspect.add_argument("dataset", help="as dataset= of train.py")
    inspect.add_argument("settings", nargs="*", help="key=value, such as env_id=Hopper-v5")
    inspect.add_argument("--json", action="store_true", help="as one JSON object")
    inspect.set_defaults(act=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    """Print the checks of a log; exit code 3 where one says STOP."""
    from mopo_pl.config.compose import compose
    from mopo_pl.data.doctor.report import as_json, as_text
    from mopo_pl.data.findings import worst
    from mopo_pl.run.inputs import examine_inputs

    config = compose([f"dataset={options.dataset}", *options.settings])
    log = examine_inputs(config, without_rule="WARN")
    told = as_json(config.dataset, log.dataset, log.findings) if options.json else as_text(log.dataset, log.findings)
    show(told)
    return STOPPED if worst(log.findings) == "STOP" else 0
