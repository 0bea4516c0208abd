"""`python -m mopo_pl serve`: serves a run's policy over HTTP or in lines of JSON."""

import importlib.util
import ipaddress
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from mopo_pl.errors import InputError
from mopo_pl.policy import Policy
from mopo_pl.policy.guards import OnInvalid
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.serving import lines
from mopo_pl.serving.service import Service


def serve(
    run: Path,
    *,
    address: tuple[str, int] | None,
    on_invalid: OnInvalid | None,
    safe_action: Sequence[float] | None,
    rate_limits: Mapping[str, float],
    actor: Callable[..., TanhGaussianActor] | None,
) -> int:
    """Serve the policy of a run until a signal or the end of the input stops it; returns 0.

    `address` contains host and port, with port 0 for a free one; None serves lines of standard input. `on_invalid`, `safe_action` and
    `rate_limits` are passed to `Policy.guard`; None for `on_invalid` keeps the policy's setting. Raises InputError for values that do not
    fit the policy, for an address that is not available, and where the extra `serve` is missing.
    """
    policy = Policy.load(run, actor=actor)
    try:
        policy.guard(
            on_invalid=on_invalid or policy.guards.on_invalid, safe_action=safe_action, rate_limits=rate_limits
        )
    except ValueError as error:
        raise InputError(f"{run}: {error}") from error
    if address is None and sys.stdin is None:
        raise InputError("--stdin: the standard input is closed; give it lines: < observations.jsonl")
    torch.set_num_threads(1)  # one observation is too little work for several threads
    service = Service(policy, run)
    if address is None:
        lines.run(service, sys.stdin.fileno(), sys.stdout)
    else:
        _over_http(service, *address)
    counts = service.health()["requests"]
    print(f"ended    {counts['answered']} answered, {counts['refused']} refused", file=sys.stderr)
    return 0


def _over_http(service: Service, host: str, port: int) -> None:
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"serve needs {', '.join(missing)}: pip install -c constraints.txt -e '.[serve]', or use --stdin, which needs neither"
        )
    from mopo_pl.serving import web

    with _bound(host, port) as taken:
        name, number = taken.getsockname()[:2]
        if not ipaddress.ip_address(name).is_loopback:
            print(
                f"warning: {name} is reached from other machines, without a password or encryption: whoever reaches it commands "
                "the policy",
                file=sys.stderr,
            )
        print(f"serving  {address_of(name, number)}  (POST /act, POST /reset, GET /health; Ctrl-C ends it)", flush=True)
        web.run(service, taken)


def address_of(name: str, port: int) -> str:
    """Return the URL for clients.

    >>> address_of("127.0.0.1", 8000), address_of("::1", 8000)
    ('http://127.0.0.1:8000', 'http://[::1]:8000')
    """
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the address."""
    if not 0 <= port < 2**16:  # getaddrinfo would reduce larger ports modulo 2**16
        raise InputError(f"--port {port} must lie in [0, 65535]; 0 is a free one")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.create_server(address[:2], family=family, backlog=2048)
        # Accepted connections inherit TCP_NODELAY; asyncio sets it only for sockets whose protocol was named explicitly. Without it the
        # body of a reply waits 40 ms for the acknowledgement of its head.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return bound
    except (OSError, UnicodeError) as error:  # UnicodeError: a label of the host name is empty or too long
        why = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        raise InputError(
            f"--host {host} --port {port} cannot be had ({why}): give another, or --port 0 for a free one"
        ) from error
