"""Command line of `report`: its arguments, and the function that handles them."""

import argparse
from pathlib import Path
from typing import Any

from mopo_pl.distributed.streams import show


def add_report(commands: Any) -> None:
    """Add the command to the subparsers of `python -m mopo_pl`."""
    report = commands.add_parser("report", help="write report.html into a run folder: one page about the run")
    report.add_argument("run", type=Path, help="run folder")
    report.add_argument(
        "settings",
        nargs="*",
        default=[],
        help="dataset=PATH, if the log was moved; trust=true: follow the code and places that the run's config.yaml names; "
        "penalty.name=module:function, …: this one",
    )
    report.add_argument("--json", action="store_true", help="print what the page shows as one JSON object instead")
    report.set_defaults(act=_report)


def _report(options: argparse.Namespace) -> int:
    from mopo_pl.report.command import report

    show(report(options.run, options.settings, as_json=options.json))
    return 0
