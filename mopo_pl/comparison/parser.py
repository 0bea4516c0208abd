"""Command line of `compare`: its arguments, and the function that handles them."""

import argparse
from pathlib import Path
from typing import Any

from mopo_pl.distributed.streams import show


def add_compare(commands: Any) -> None:
    """Add the command to the subparsers of `python -m mopo_pl`."""
    compare = commands.add_parser("compare", help="compare runs by their returns, grouped by the settings that differ")
    compare.add_argument("runs", nargs="+", type=Path, metavar="run", help="run folders, or folders of sweeps")
    compare.add_argument(
        "--out", type=Path, help="where the pages go (default: the folder of the sweep, else comparison)"
    )
    compare.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    compare.set_defaults(act=_compare)


def _compare(options: argparse.Namespace) -> int:
    from mopo_pl.comparison.command import compare

    show(compare(options.runs, options.out, as_json_text=options.json))
    return 0
