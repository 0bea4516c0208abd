"""The command `inspect`: its arguments and its call."""

import argparse
from pathlib import Path
from typing import Any

from mopo_pl.distributed.streams import show

STOPPED = 3
"""Exit code of `inspect` if a check has level STOP, so that the log must not be trained on."""


def add_inspect(commands: Any) -> None:
    """Add `inspect` to the subparsers of `python -m mopo_pl`."""
    inspect = commands.add_parser(
        "inspect", help="say what a dataset holds, and check it (exit code 3: do not train on it)"
    )
    inspect.add_argument("dataset", help="as dataset= of train.py")
    inspect.add_argument("settings", nargs="*", default=[], help="key=value, such as env_id=Hopper-v5")
    inspect.add_argument("--json", action="store_true", help="as one JSON object")
    inspect.add_argument(
        "--html", type=Path, metavar="PAGE", help="write a page with figures too: a file ending in .html"
    )
    inspect.set_defaults(act=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    """Print the checks of a log, and write its page if one is named. Return exit code 3 if a check has level STOP, else 0."""
    from mopo_pl.run.preparation.inspection import inspect

    told, level = inspect(options.dataset, options.settings, as_json_text=options.json, page=options.html)
    show(told)
    return STOPPED if level == "STOP" else 0
