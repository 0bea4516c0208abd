"""Command line of `serve`: its arguments, and the function that handles them."""

import argparse
from pathlib import Path
from typing import Any

from mopo_pl.errors import InputError

ON_INVALID = ("error", "last", "safe_action")
"""Values of `guards.OnInvalid`, repeated here so that torch is not imported (a test compares them)."""


def add_serve(commands: Any) -> None:
    """Add the command to the subparsers of `python -m mopo_pl`."""
    serve = commands.add_parser("serve", help="answer observations by actions, over HTTP or in lines of JSON")
    serve.add_argument("run", type=Path, help="run folder, or its policy folder")
    serve.add_argument("--port", type=int, default=8000, help="0: a free one (default: %(default)s)")
    serve.add_argument("--host", default="127.0.0.1", help="address it listens at (default: %(default)s)")
    serve.add_argument("--stdin", action="store_true", help="lines of JSON in, lines of JSON out, instead of HTTP")
    serve.add_argument("--on-invalid", choices=ON_INVALID, help="an observation that is not finite (default: error)")
    serve.add_argument("--safe-action", type=float, nargs="+", metavar="A", help="a number for each action column")
    serve.add_argument(
        "--rate-limit", action="append", default=[], metavar="NAME=CHANGE", help="largest change of an action in a step"
    )
    serve.add_argument("--actor", metavar="MODULE:CLASS", help="class of the policy network, if it is your own")
    serve.set_defaults(act=_serve)


def _serve(options: argparse.Namespace) -> int:
    from mopo_pl.config.registry import lookup
    from mopo_pl.serving.command import serve

    limits: dict[str, float] = {}
    for given in options.rate_limit:
        name, _, change = given.rpartition("=")
        if name in limits:
            raise InputError(f"--rate-limit {given}: {name} has a limit already")
        try:
            limits[name] = float(change)
        except ValueError as error:
            raise InputError(f"--rate-limit {given}: write NAME=CHANGE, such as valve=0.25") from error
    try:
        actor: Any = None if options.actor is None else lookup("actor", options.actor, {})
    except ValueError as error:
        raise InputError(f"--actor {options.actor}: {error}") from error
    return serve(
        options.run,
        address=None if options.stdin else (options.host, options.port),
        on_invalid=options.on_invalid,
        safe_action=options.safe_action,
        rate_limits=limits,
        actor=actor,
    )
